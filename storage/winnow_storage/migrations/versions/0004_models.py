"""The model registry's versions and stages, as an index: the objects are the truth."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "models",
        sa.Column("registry", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text()),
        sa.Column("architecture", sa.Text()),
        sa.Column("licence", sa.Text()),
        sa.Column("parent", sa.Text()),
        sa.Column("labels", sa.Integer()),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "name", "version", name=op.f("pk_models")),
    )
    op.create_table(
        "model_stages",
        sa.Column("registry", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("moved_by", sa.Text()),
        sa.Column("why", sa.Text()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("registry", "name", "number", name=op.f("pk_model_stages")),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("model_stages")
    op.drop_table("models")
