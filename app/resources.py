"""All that a process needs, opened in order and closed in reverse; API and workers share it.

The only place that knows the concrete classes: everything above is given what it uses.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from redis.asyncio import Redis

from app.actions import load_catalogue
from app.archive.archive import Archive, open_archive
from app.broker.connection import BrokerConnection
from app.broker.publisher import Publisher
from app.broker.topology import require_declared
from app.cancelling import cancel
from app.domain.action import ActionCatalogue
from app.domain.errors import BrokerUnavailable, ConfigurationError
from app.observability.logging import get_log
from app.results.store import ResultStore
from app.security.file_sealing import FileSealer
from app.security.sealing import Sealer
from app.settings import Settings
from app.store.connection import open_redis
from app.store.limits import OwnerLimits
from app.store.listing import OwnerLists
from app.store.subscriptions import Subscriptions
from app.store.task_logs import TaskLogs
from app.store.tasks import TaskStore
from app.webhooks.destination import Destinations, SystemLookup

START_SECONDS: Final = 10.0
"""How long a starting process waits for RabbitMQ."""

log = get_log("process")


@dataclass(frozen=True, slots=True)
class Resources:
    """What is open in this process."""

    settings: Settings
    catalogue: ActionCatalogue
    redis: Redis
    tasks: TaskStore
    lists: OwnerLists
    limits: OwnerLimits
    logs: TaskLogs
    archive: Archive
    subscriptions: Subscriptions
    publishing: BrokerConnection
    consuming: BrokerConnection
    publisher: Publisher
    sealer: Sealer
    results: ResultStore
    destinations: Destinations
    lookup: SystemLookup


@contextlib.asynccontextmanager
async def open_resources(settings: Settings, *, name: str) -> AsyncIterator[Resources]:
    """Open everything and check that it can be used.

    Args:
        settings: The process's settings.
        name: How RabbitMQ's operators see the process.

    Raises:
        ConfigurationError: A server is too old, a file of `tls` cannot be used, or the queues are not declared.
        StoreUnavailable, BrokerUnavailable, ArchiveUnavailable: A server does not answer.
    """
    dataset_ids = settings.datasets.keys()
    catalogue = load_catalogue(settings.actions, dataset_ids=dataset_ids)
    require_settings_of(catalogue, settings)
    redis_url, amqp_url = settings.redis_url.get_secret_value(), settings.amqp_url.get_secret_value()
    if redis_url.startswith("rediss:") or amqp_url.startswith("amqps:"):
        settings.tls.context()  # a file that cannot be used stops the start, in one line
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(redis_url, settings.tls))
        tasks = TaskStore(
            redis,
            lease=timedelta(seconds=settings.lease_seconds),
            status_ttl=timedelta(hours=settings.status_ttl_hours),
        )
        archive = await stack.enter_async_context(open_archive(settings.archive_url.get_secret_value()))
        subscriptions = Subscriptions(redis_url, settings.tls)
        publishing = BrokerConnection(amqp_url, name=f"{name} publishing", tls=settings.tls)
        consuming = BrokerConnection(amqp_url, name=f"{name} consuming", tls=settings.tls)
        for task_name, work in (("subscriptions", subscriptions.run()), ("publishing", publishing.run())):
            await stack.enter_async_context(side_task(work, name=task_name))
        await _prepared(publishing, settings, catalogue)
        keys = {key_id: key.get_secret_value() for key_id, key in settings.encryption_keys.items()}
        lookup = SystemLookup()
        stack.callback(lookup.close)
        yield Resources(
            settings=settings,
            catalogue=catalogue,
            redis=redis,
            tasks=tasks,
            lists=OwnerLists(redis),
            limits=OwnerLimits(
                redis,
                quota=settings.rate_limits.submissions,
                window=timedelta(seconds=settings.rate_limits.window_seconds),
                active_tasks=settings.rate_limits.active_tasks,
            ),
            logs=TaskLogs(redis),
            archive=archive,
            subscriptions=subscriptions,
            publishing=publishing,
            consuming=consuming,
            publisher=Publisher(publishing, timeout=timedelta(seconds=settings.publish_timeout_seconds)),
            sealer=Sealer(keys),
            results=ResultStore(settings.results_url, sealer=FileSealer(keys), seals=settings.seal_results),
            destinations=Destinations(
                allow=settings.callbacks.allow, ports=settings.callbacks.ports, development=settings.development
            ),
            lookup=lookup,
        )


def require_settings_of(catalogue: ActionCatalogue, settings: Settings) -> None:
    """Check that every action's queue is configured.

    Raises:
        ConfigurationError: One is not.
    """
    for queue in catalogue.queues:
        if queue not in settings.queues:
            raise ConfigurationError(f"queues: {queue!r} is missing, and an action needs it")


async def _prepared(connection: BrokerConnection, settings: Settings, catalogue: ActionCatalogue) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            opened = await connection.connected()
    except TimeoutError as error:
        raise BrokerUnavailable(connection.why_away) from error
    await require_declared(opened, depth_limits(settings, catalogue))


def depth_limits(settings: Settings, catalogue: ActionCatalogue) -> dict[str, int]:
    """Return the depth limit of every queue that an action waits in."""
    return {queue: settings.queues[queue].depth_limit for queue in catalogue.queues}


@contextlib.asynccontextmanager
async def side_task(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run something beside the process's main work, and end it with the block. If it dies, the process stops loudly."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a part of the process has died", name=name, exc_info=error)
            signal.raise_signal(signal.SIGTERM)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    try:
        yield
    finally:
        await cancel(task)
