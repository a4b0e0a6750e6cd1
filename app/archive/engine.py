"""SQLite or PostgreSQL: opening, transactions, and what a driver's error turns into.

Above this file nobody knows which of the two it is, but for a statement's dialect.

**SQLite**: one file for all processes of a machine. WAL, so that readers and the one writer do not wait for each other;
`synchronous=FULL`, so that a committed row is on disk (NORMAL would lose the last ones with the power, and is no faster
for groups); `BEGIN IMMEDIATE`, since a transaction that reads first and then wants to write may be refused without
waiting. A service opens an existing file only: should the archive vanish, nothing goes on in an empty new one.

**PostgreSQL**: a bounded pool; READ COMMITTED, which `endings.py` counts on.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError, StatementError

from app.domain.errors import ArchiveUnavailable, ConfigurationError, LonghaulError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

Done = TypeVar("Done")
Body = Callable[[Connection], Done]
Address = tuple[int, int]

TIMEOUT: Final = timedelta(seconds=5)
POOL_SIZE: Final = 5
EXTRA: Final = "archive_url: PostgreSQL needs the extra `postgres`: pip install 'longhaul[postgres]'"


class Database(ABC):
    """The database of an archive. A transaction's body is a plain function of a Connection, and may run twice."""

    def __init__(self, *, timeout: timedelta, writers: int) -> None:
        """Prepare.

        Args:
            timeout: How long a transaction may take, waiting for a connection included.
            writers: How many may write at a time.
        """
        self._timeout = timeout.total_seconds()
        self._writers = asyncio.Semaphore(writers)

    @property
    def file(self) -> Path | None:
        """SQLite's file; None for PostgreSQL."""
        return None

    async def write(self, body: Body[Done]) -> Done:
        """Run a transaction and commit it: what it did is on disk when this returns.

        Raises:
            ArchiveUnavailable: No answer in time: it may or may not have been committed.
            LonghaulError: The database refuses the values. Nothing was done.
        """

        async def transaction() -> Done:
            async with self._writers:
                return await self._write(body)

        return await self._guarded(transaction)

    async def read(self, body: Body[Done]) -> Done:
        """Run one SELECT.

        Raises:
            ArchiveUnavailable: No answer in time.
        """
        return await self._guarded(lambda: self._read(body))

    @abstractmethod
    async def _write(self, body: Body[Done]) -> Done: ...

    @abstractmethod
    async def _read(self, body: Body[Done]) -> Done: ...

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""

    async def _guarded(self, transaction: Callable[[], Awaitable[Done]]) -> Done:
        """Bound it in time, translate its errors, and try once more when a connection of the pool was dead."""
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await transaction()
                except DBAPIError as error:
                    if not error.connection_invalidated:
                        raise
                    return await transaction()
        except DRIVER_ERRORS as error:
            raise translated(error) from error


DRIVER_ERRORS: Final[tuple[type[Exception], ...]] = (
    SQLAlchemyError,
    OSError,  # TimeoutError and ConnectionRefusedError, which asyncpg lets through
    OverflowError,  # an integer over 64 bits, from sqlite3
)


def translated(error: Exception) -> LonghaulError:
    """Say whose fault a driver's error is: the values', or the database's."""
    original: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(original, "sqlstate", None) or "")
    names = {kind.__name__ for kind in type(original).__mro__}
    # SQLSTATE classes 22 and 23: data exception, integrity constraint violation. asyncpg's own check of an argument has
    # no SQLSTATE, but is a ValueError.
    value_error = isinstance(original, OverflowError) or isinstance(getattr(original, "__cause__", None), ValueError)
    unsendable = isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    if state[:2] in ("22", "23") or names & {"DataError", "IntegrityError"} or value_error or unsendable:
        return LonghaulError("The archive cannot keep this row.")
    return ArchiveUnavailable()


@asynccontextmanager
async def open_database(
    url: str, *, timeout: timedelta = TIMEOUT, pool_size: int = POOL_SIZE, create: bool = False
) -> AsyncIterator[Database]:
    """Open a database and close it; nothing is connected before the first transaction.

    Args:
        url: `sqlite:////absolute/path.db`, or `postgresql://…` with the options that asyncpg knows (`sslmode`, …).
        timeout: How long a transaction may take, from the wait for a connection to the commit's answer.
        pool_size: Connections of this process to PostgreSQL at most.
        create: Make SQLite's file, and its directory.

    Raises:
        ConfigurationError: The URL is of neither kind, or PostgreSQL's driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("archive_url: this is no URL") from error
    match parsed.drivername:
        case "sqlite":
            database: Database = _Sqlite(_sqlite_file(parsed), timeout, create=create)
        case "postgresql" | "postgres":
            database = _Postgresql(url, timeout, pool_size)
        case other:
            raise ConfigurationError(f"archive_url: {other!r} is neither sqlite nor postgresql")
    try:
        yield database
    finally:
        await database.close()


# --- SQLite


def _sqlite_file(url: URL) -> Path:
    if not url.database or url.database == ":memory:" or url.query or url.host:
        raise ConfigurationError(
            "archive_url: SQLite needs a file that all processes share: sqlite:////path/to/archive.db"
        )
    return Path(url.database).absolute()


class _Sqlite(Database):
    """A transaction is done in one go in a thread: there is no asynchronous SQLite.

    aiosqlite has a thread as well, but each statement goes there and back. In a worker whose loop was busy a row in a
    group of 70 waited 190 ms so, of which SQLite took ten.
    """

    def __init__(self, file: Path, timeout: timedelta, *, create: bool) -> None:
        # Inside one process SQLite's writers queue here: its own waiting is a poll with sleeps of up to 100 ms. A row
        # in a group of 20 took 34 ms at the 99th percentile so, and 132 ms with two writers.
        super().__init__(timeout=timeout, writers=1)
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._threads = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="archive")
        mode = "rwc" if create else "rw"
        self._engine = create_engine(
            URL.create("sqlite", database=f"file:{quote(str(file))}", query={"uri": "true", "mode": mode}),
            pool_size=POOL_SIZE,
            max_overflow=0,
            connect_args={
                "timeout": 0.8 * timeout.total_seconds(),  # waiting for another process: ends before we give up
                "isolation_level": None,  # else sqlite3 begins transactions where it sees fit
            },
        )

        # One statement for all rows of an INSERT: sqlite3 lets go of the interpreter's lock for each that it executes.
        self._engine.dialect.use_insertmanyvalues_wo_returning = True

        @event.listens_for(self._engine, "connect")
        def prepare(connection: Any, record: Any) -> None:
            record.info["address"] = _address(file)
            cursor = connection.cursor()
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(self._engine, "checkout")
        def refuse_a_deleted_file(_connection: Any, record: Any, _proxy: Any) -> None:
            # SQLite goes on writing, without a word, into a file that is in no directory any more.
            if _address(file) != record.info["address"]:
                raise DisconnectionError("the file is another one now")

    @property
    def file(self) -> Path:
        """The file."""
        return self._file

    async def _write(self, body: Body[Done]) -> Done:
        return await self._in_thread(self._transaction, body)

    async def _read(self, body: Body[Done]) -> Done:
        return await self._in_thread(self._look, body)

    async def _in_thread(self, work: Callable[[Body[Done]], Done], body: Body[Done]) -> Done:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, body)

    def _transaction(self, body: Body[Done]) -> Done:
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            address = connection.info["address"]
            done = body(connection)
        if _address(self._file) != address:
            raise ArchiveUnavailable("The archive's file has vanished.")
        return done

    def _look(self, body: Body[Done]) -> Done:
        with self._engine.connect() as connection:
            return body(connection)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()


def _address(file: Path) -> Address | None:
    """Return what tells a file from another that has its name later; None when there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


# --- PostgreSQL


class _Postgresql(Database):
    def __init__(self, url: str, timeout: timedelta, pool_size: int) -> None:
        super().__init__(timeout=timeout, writers=POOL_SIZE)
        self._engine = _postgresql(url, timeout, pool_size)
        # A single SELECT is its own transaction: one round trip instead of three.
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def _write(self, body: Body[Done]) -> Done:
        async with self._engine.begin() as connection:
            return await connection.run_sync(body)

    async def _read(self, body: Body[Done]) -> Done:
        async with self._reader.connect() as connection:
            return await connection.run_sync(body)

    async def close(self) -> None:
        await self._engine.dispose()


def _postgresql(url: str, timeout: timedelta, pool_size: int) -> "AsyncEngine":
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  # with all of the ORM: 10 MB

    try:
        asyncpg: Any = import_module("asyncpg")  # here: whoever has SQLite need not have it
    except ModuleNotFoundError as error:
        raise ConfigurationError(EXTRA) from error
    seconds = timeout.total_seconds()
    milliseconds = str(timeout // timedelta(milliseconds=1))

    async def connect(**_arguments: Any) -> Any:
        # The URL as it stands, so that asyncpg's own reading of it holds: sslmode, a socket's directory, service files.
        return await asyncpg.connect(
            url,
            timeout=0.6 * seconds,
            command_timeout=seconds,
            server_settings={
                "application_name": "longhaul",
                # The server gives up when we have: what we left behind must not hold a lock.
                "statement_timeout": milliseconds,
                "lock_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
            },
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=seconds,
        pool_use_lifo=True,  # few connections stay warm instead of many lukewarm
    )
