"""Tables for webhooks, the attempts at them, and the secrets that sign them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    task_id = sa.String(36).with_variant(postgresql.UUID(), "postgresql")
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.Text, primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("task_id", task_id),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("letter", sa.LargeBinary, nullable=False),
    )
    op.create_index("webhooks_by_task", "webhooks", ["task_id"])
    op.create_index("webhooks_by_time", "webhooks", ["created_at"])
    due = sa.text("next_attempt_at IS NOT NULL")
    op.create_index("webhooks_due", "webhooks", ["next_attempt_at"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text, primary_key=True),
        sa.Column("webhook_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("attempted_at", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("location", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("next_attempt_at", sa.BigInteger),
    )
    op.create_index("deliveries_by_webhook", "deliveries", ["webhook_id"])
    op.create_table(
        "webhook_secrets",
        sa.Column("owner_id", sa.Text, primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("secret", sa.LargeBinary, nullable=False),
    )
