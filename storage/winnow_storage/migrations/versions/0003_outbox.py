"""What an import rests on, and what labels say beside the answer."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = (("review_tasks", "fence", sa.BigInteger), ("labels", "comment", sa.Text), ("labels", "supersedes", sa.Text))


def upgrade() -> None:
    """Add the columns."""
    for table, name, kind in _COLUMNS:
        op.add_column(table, sa.Column(name, kind(), nullable=True))


def downgrade() -> None:
    """Remove them."""
    for table, name, _ in _COLUMNS:
        op.drop_column(table, name)
