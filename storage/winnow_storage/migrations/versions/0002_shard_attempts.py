"""Attempts at shards, noted before they start."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "shard_attempts",
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("output", "run_id", "shard", name=op.f("pk_shard_attempts")),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("shard_attempts")
