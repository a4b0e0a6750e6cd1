"""Tables for how tasks ended, what was forgotten, and which messages were refused."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    task_id = sa.String(36).with_variant(postgresql.UUID(), "postgresql")
    op.create_table(
        "ended",
        sa.Column("task_id", task_id, primary_key=True),
        sa.Column("run", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=False),
        sa.Column("result_key", sa.Text),
        sa.Column("result_expires_at", sa.BigInteger),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("envelope", sa.LargeBinary),
        sa.Column("checkpoint", sa.LargeBinary),
        sa.Column("checkpoint_progress", sa.Integer, nullable=False),
    )
    op.create_index("ended_by_owner", "ended", ["owner_id", "created_at", "task_id"])
    op.create_index("ended_by_finish", "ended", ["finished_at"])
    _create_partial_index("ended_by_result_expiry", "ended", "result_expires_at")
    op.create_table(
        "forgotten",
        sa.Column("task_id", task_id, primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("forgotten_at", sa.BigInteger, nullable=False),
        sa.Column("result_key", sa.Text),
    )
    op.create_index("forgotten_by_time", "forgotten", ["forgotten_at"])
    _create_partial_index("forgotten_with_result", "forgotten", "result_key")
    op.create_table(
        "refused",
        sa.Column("task_id", task_id, primary_key=True),
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("refused_at", sa.BigInteger, nullable=False),
    )
    op.create_index("refused_by_time", "refused", ["refused_at"])


def _create_partial_index(name: str, table: str, column: str) -> None:
    there = sa.text(f"{column} IS NOT NULL")
    op.create_index(name, table, [column], sqlite_where=there, postgresql_where=there)
