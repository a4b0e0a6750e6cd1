"""A refusal begins as a doubt, so that nobody drops a message before it is decided. What is there already is final."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each refusal whether it is still in doubt."""
    op.add_column("refused", sa.Column("in_doubt", sa.Boolean, nullable=False, server_default=sa.false()))
