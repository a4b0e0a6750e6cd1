"""The tables. All times are milliseconds since the epoch.

`document` holds the whole Task as JSON text; the other columns of `ended` are copies of what a question is asked by,
and the sealed bytes. Text, not `jsonb`: nothing looks inside, and `jsonb` refuses the character U+0000, which a
handler's message may well contain. A new member of Task needs no migration.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    false,
)
from sqlalchemy.types import String, TypeDecorator, TypeEngine

metadata = MetaData()


class TaskId(TypeDecorator[UUID]):
    """A task's id: `uuid` in PostgreSQL, in SQLite the 36 characters that URLs, log lines and Redis' keys show.

    So what an operator copies from a log is found in either database as it stands; both sort it as the text sorts,
    which is what "then by falling id" means in lists. 16 bytes as a blob would save some 60 bytes of a row and its
    index entries, of half a kilobyte and more.
    """

    impl = String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        native = dialect.name == "postgresql"
        return dialect.type_descriptor(Uuid() if native else String(36))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Write an id."""
        return value if value is None or dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:  # noqa: ARG002 - SQLAlchemy's
        """Read an id."""
        return None if value is None else UUID(str(value))  # asyncpg's own kind of UUID is none of ours


ended = Table(
    "ended",
    metadata,
    Column("task_id", TaskId, primary_key=True),
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("owner_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("labels", Text, nullable=False),  # each between spaces, which no label contains: " a b "; "" for none
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    # The result file as housekeeping sees it: both are NULL when there is none, or none any more.
    Column("result_key", Text),
    Column("result_expires_at", BigInteger),
    Column("document", Text, nullable=False),
    Column("envelope", LargeBinary),
    Column("checkpoint", LargeBinary),
    Column("checkpoint_progress", Integer, nullable=False),
)
"""How a run ended; the first row of a run wins, and none is ever changed but by the removal of its result file."""

Index("ended_by_owner", ended.c.owner_id, ended.c.created_at, ended.c.task_id)
Index("ended_by_finish", ended.c.finished_at)
Index(
    "ended_by_result_expiry",
    ended.c.result_expires_at,
    sqlite_where=ended.c.result_expires_at.is_not(None),
    postgresql_where=ended.c.result_expires_at.is_not(None),
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("task_id", TaskId, primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("forgotten_at", BigInteger, nullable=False),
    Column("result_key", Text),  # of a file that is still to be removed
)
"""What was deleted by its owner: no run of it ever comes back."""

Index("forgotten_by_time", forgotten.c.forgotten_at)
Index(
    "forgotten_with_result",
    forgotten.c.result_key,
    sqlite_where=forgotten.c.result_key.is_not(None),
    postgresql_where=forgotten.c.result_key.is_not(None),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("task_id", TaskId),  # of a test there is none
    Column("run", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", BigInteger),  # NULL unless it is due; while it is being sent, when that is given up
    Column("created_at", BigInteger, nullable=False),
    Column("letter", LargeBinary, nullable=False),
)
"""Events to be told, in a transaction with what they tell: the end's comes with the winning row of `ended`."""

Index("webhooks_by_task", webhooks.c.task_id)
Index("webhooks_by_time", webhooks.c.created_at)
Index(
    "webhooks_due",
    webhooks.c.next_attempt_at,
    sqlite_where=webhooks.c.next_attempt_at.is_not(None),
    postgresql_where=webhooks.c.next_attempt_at.is_not(None),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("webhook_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("attempted_at", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status_code", Integer),  # of an answer; NULL without one
    Column("location", Text),
    Column("error", Text),
    Column("next_attempt_at", BigInteger),
)
"""Attempts at webhooks, as they went."""

Index("deliveries_by_webhook", deliveries.c.webhook_id)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # NULL for the newest one
    Column("secret", LargeBinary, nullable=False),
)
"""With what owners' webhooks are signed, sealed. Nothing else knows them: they cannot be made again."""

pauses = Table(
    "pauses",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("paused_at", BigInteger, nullable=False),
    Column("paused_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Queues that an operator has paused. Nothing else knows it: neither a message nor Redis could tell it again."""

refused = Table(
    "refused",
    metadata,
    Column("task_id", TaskId, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("refused_at", BigInteger, nullable=False),
    Column("in_doubt", Boolean, nullable=False, server_default=false()),
)
"""Messages whose submission was refused, though they may arrive: each bars itself, and nothing else.

While a request finds out whether its task can be taken back, its message is only in doubt: it is held up, not dropped.
"""

Index("refused_by_time", refused.c.refused_at)
