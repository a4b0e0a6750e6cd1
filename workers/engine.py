"""Engine: all that runs in a worker process, and the order in which it stops.

Stopping, on a signal: 1. no consumer takes anything new, and what was prefetched goes back; 2. running jobs may end for
as long as `shutdown_seconds` allow; 3. the rest is stopped, and released uncharged, to go on from its checkpoint
elsewhere; 4. the fork server ends, and the connections close. An engine that has grown too large stops by itself, for
another to take its place: it takes nothing new, and keeps house, until its last job has ended, however long that takes.
"""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from app.broker.delivery import Delivery
from app.broker.topology import WEBHOOK_QUEUE
from app.cancelling import cancel
from app.collector import spare_the_collector
from app.domain.errors import ConfigurationError
from app.observability.logging import get_log
from app.resources import Resources, open_resources, side_task
from app.service.wiring import CoreServices, core_services
from app.settings import QueueSettings, Settings
from app.store.workers import Workers
from workers.attempt import HANDLER_TASK
from workers.consumer import Consumer
from workers.desk import Desk
from workers.execution import Execution
from workers.executors.process import ProcessExecutor
from workers.executors.watch import Limits
from workers.heartbeat import Heartbeat, Roster
from workers.housekeeping.wiring import housekeeper
from workers.pauses import Gate, PauseWatch
from workers.redis_watch import RedisUnreachable, RedisWatch
from workers.registry import Registry
from workers.signs import Sign
from workers.vitals import require_room, watch_loop, watch_memory
from workers.webhooks.wiring import sender
from workers.workspaces import open_workspaces

RELEASE_SECONDS: Final = 5.0
"""Of `shutdown_seconds`, what is kept for giving back the jobs that have not ended."""

EXIT_UNREACHABLE: Final = 1
"""Redis stayed away."""
EXIT_OUTGROWN: Final = 75
"""EX_TEMPFAIL of sysexits.h: nothing is wrong, start another engine."""
LEAVING_SECONDS: Final = 10.0
"""How long an engine that gives up may take to close what it has open, which may not answer either."""

log = get_log("engine")


class Engine:
    """A worker process."""

    def __init__(self, settings: Settings) -> None:
        """Import the handlers.

        Raises:
            ConfigurationError: The handlers do not fit the settings.
        """
        self._settings = settings
        self._registry = Registry(settings.handlers if "jobs" in settings.roles else [])
        self._stopping = asyncio.Event()
        """Nothing new is taken."""
        self._told_to_stop = asyncio.Event()
        self._house_closed = asyncio.Event()
        self._stopping_hard = Sign()

    def stop(self) -> None:
        """Begin to stop. A second call stops at once."""
        if self._told_to_stop.is_set():
            self._stopping_hard.set()
        for event in (self._told_to_stop, self._stopping, self._house_closed):
            event.set()

    async def run(self) -> int:
        """Work until `stop` is called, or the engine cannot go on.

        Returns:
            The exit status: 0, EXIT_UNREACHABLE or EXIT_OUTGROWN.

        Raises:
            ConfigurationError, StoreUnavailable, BrokerUnavailable: As for `open_resources`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        with open_workspaces() as workspaces:
            async with open_resources(self._settings, name=f"worker-engine {worker}") as resources:
                try:
                    await self._work(resources, worker, workspaces)
                    status = 0 if self._told_to_stop.is_set() else EXIT_OUTGROWN
                except* RedisUnreachable:
                    status = EXIT_UNREACHABLE
        if status == EXIT_UNREACHABLE:
            return status  # what still runs is cancelled with the loop
        log.info("stopped")
        _leave_the_stubborn_behind(status)
        return status

    async def _work(self, resources: Resources, worker: str, workspaces: Path) -> None:
        """Work until there is nothing left to do.

        Raises:
            ExceptionGroup: Of RedisUnreachable.
        """
        settings = self._settings
        queues = served_queues(resources, self._registry)
        limits = Limits(settings.max_rss_mb, settings.stall_timeout_seconds)
        processes = ProcessExecutor(settings.handlers, limits)
        core = core_services(resources)
        desk = self._desk(resources, core, processes, worker, workspaces)
        patience = timedelta(seconds=settings.redis_patience_seconds)
        redis = RedisWatch(resources.redis, patience=patience, in_hand=desk.in_hand)
        pauses = PauseWatch(resources.archive.pauses, queues)
        slots = {queue: settings.queues[queue].concurrency for queue in queues}
        heartbeat = Heartbeat(Workers(resources.redis), desk.roster, worker=worker, slots=slots)
        require_room(settings.max_rss_mb)
        spare_the_collector()
        try:
            await pauses.look()
            async with (
                side_task(pauses.run(), name="pauses"),
                side_task(resources.consuming.run(), name="consuming"),
                side_task(self._limit_the_stop(), name="stop"),
                side_task(heartbeat.run(), name="heartbeat"),
                side_task(watch_memory(settings.max_rss_mb, self._stopping.set), name="memory"),
                side_task(watch_loop(), name="loop"),
                asyncio.TaskGroup() as group,
            ):
                watching = group.create_task(_watched(redis), name="Redis")
                async with asyncio.TaskGroup() as keeping:
                    if "housekeeping" in settings.roles:
                        keeper = housekeeper(resources, core, worker)
                        keeping.create_task(keeper.run(self._house_closed), name="housekeeping")
                    await self._consume(pauses.gates, resources, core, desk)
                    self._house_closed.set()
                await cancel(watching)
        finally:
            await processes.aclose()

    async def _consume(self, gates: Mapping[str, Gate], resources: Resources, core: CoreServices, desk: Desk) -> None:
        """Consume until the engine stops, and what runs has ended."""
        async with asyncio.TaskGroup() as consumers:
            for queue, gate in gates.items():
                consumers.create_task(self._consumer(queue, gate, resources, desk).run(), name=f"consumer {queue}")
            if "webhooks" in self._settings.roles:
                consumers.create_task(self._senders(resources, core).run(), name="webhooks")
            await self._stopping.wait()  # an engine that only keeps house consumes nothing

    async def _limit_the_stop(self) -> None:
        await self._told_to_stop.wait()
        log.info("stopping")
        try:
            async with asyncio.timeout(max(0.0, self._settings.shutdown_seconds - RELEASE_SECONDS)):
                await self._stopping_hard.wait()
        except TimeoutError:
            self._stopping_hard.set()

    def _desk(
        self, resources: Resources, core: CoreServices, processes: ProcessExecutor, worker: str, workspaces: Path
    ) -> Desk:
        settings = self._settings
        return Desk(
            worker=worker,
            tasks=resources.tasks,
            lists=resources.lists,
            logs=resources.logs,
            archive=resources.archive,
            publisher=resources.publisher,
            endings=core.endings,
            announcements=core.announcements,
            results=resources.results,
            sealer=resources.sealer,
            catalogue=resources.catalogue,
            registry=self._registry,
            processes=processes,
            roster=Roster(),
            datasets=dict(settings.datasets),
            workspaces=workspaces,
            in_hand={},
            stopping_hard=self._stopping_hard,
            handover=timedelta(seconds=settings.consumer_handover_seconds),
            cancel_grace=timedelta(seconds=settings.cancel_grace_seconds),
            retry_base=timedelta(seconds=settings.retry_base_seconds),
            retry_cap=timedelta(seconds=settings.retry_cap_seconds),
        )

    def _consumer(self, queue: str, gate: Gate, resources: Resources, desk: Desk) -> Consumer:
        async def execute(delivery: Delivery) -> None:
            await Execution(desk, delivery).run()

        return Consumer(
            queue,
            self._settings.queues[queue],
            gate=gate,
            connection=resources.consuming,
            publisher=resources.publisher,
            execute=execute,
            stopping=self._stopping,
        )

    def _senders(self, resources: Resources, core: CoreServices) -> Consumer:
        """Return the consumer of wake-ups: a queue and slots of its own, so that no job waits for a receiver."""
        at_once = self._settings.webhooks.concurrency
        deliver = sender(resources, core).deliver

        async def execute(delivery: Delivery) -> None:
            work = asyncio.create_task(deliver(delivery), name="webhook")
            stop = asyncio.create_task(self._stopping_hard.wait())
            try:
                await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.cancel()
                is_cut_off = work.cancel()
            if is_cut_off:
                await delivery.give_back()  # another sender makes the attempt when this one's time is over
            else:
                work.result()

        return Consumer(
            WEBHOOK_QUEUE,
            QueueSettings(prefetch=at_once, concurrency=at_once),
            gate=Gate(),
            connection=resources.consuming,
            publisher=resources.publisher,
            execute=execute,
            stopping=self._stopping,
        )


def _leave_the_stubborn_behind(status: int) -> None:
    """End the process if a handler still runs that swallows its cancellation: the loop's closing would wait for it."""
    if any(task.get_name().startswith(HANDLER_TASK) for task in asyncio.all_tasks()):
        log.error("a handler does not stop; ending without it")
        os._exit(status)  # everything is closed, and its task was given back


async def _watched(redis: RedisWatch) -> None:
    """Watch; when that gives up, the engine has so long to leave. What it cancels and closes may hang as Redis does."""
    try:
        await redis.run()
    except RedisUnreachable:
        _leave_in_time(EXIT_UNREACHABLE)
        raise


def _leave_in_time(status: int) -> None:
    """End the process, should its closing hang: nothing is lost by it, and nobody else would end it."""
    timer = threading.Timer(LEAVING_SECONDS, os._exit, [status])
    timer.daemon = True
    timer.start()


def served_queues(resources: Resources, registry: Registry) -> list[str]:
    """Return the queues of the actions that have a handler here.

    Raises:
        ConfigurationError: A handler's action is not configured, or its kind is not what its queue wants.
    """
    queues: dict[str, None] = {}
    for name, handler in registry.handlers.items():
        if resources.catalogue.get(name) is None:
            raise ConfigurationError(f"handlers: {handler.module} handles {name!r}, which `actions` does not list")
        queue = handler.action.queue_name
        executor = resources.settings.queues[queue].executor
        kind = "process" if handler.blocking else "inline"
        if executor not in ("auto", kind):
            raise ConfigurationError(f"queues.{queue}.executor: is {executor}, but the handler of {name!r} is {kind}")
        queues[queue] = None
    return list(queues)
