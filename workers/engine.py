"""Engine: all that runs in a worker process, and the order in which it stops.

Stopping: 1. no consumer takes anything new, and what was prefetched goes back; 2. running jobs may end for as long as
`shutdown_seconds` allow; 3. the rest is stopped, and released uncharged, to go on from its checkpoint elsewhere;
4. the fork server ends, and the connections close.
"""

import asyncio
import os
import signal
import socket
from datetime import timedelta
from typing import Final

from app.broker.delivery import Delivery
from app.domain.errors import ConfigurationError
from app.observability.logging import get_log
from app.resources import Resources, open_resources, side_task
from app.service.wiring import CoreServices, core_services
from app.settings import Settings
from app.store.workers import Workers
from workers.attempt import HANDLER_TASK
from workers.consumer import Consumer
from workers.desk import Desk
from workers.execution import Execution
from workers.executors.process import ProcessExecutor
from workers.heartbeat import Heartbeat, Roster
from workers.housekeeping.wiring import housekeeper
from workers.registry import Registry

RELEASE_SECONDS: Final = 5.0
"""Of `shutdown_seconds`, what is kept for giving back the jobs that have not ended."""

log = get_log("engine")


class Engine:
    """A worker process."""

    def __init__(self, settings: Settings) -> None:
        """Import the handlers.

        Raises:
            ConfigurationError: The handlers do not fit the settings.
        """
        self._settings = settings
        self._registry = Registry(settings.handlers)
        self._stopping = asyncio.Event()
        self._stopping_hard = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop. A second call stops at once."""
        if self._stopping.is_set():
            self._stopping_hard.set()
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop` is called.

        Raises:
            ConfigurationError, StoreUnavailable, BrokerUnavailable: As for `open_resources`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        async with open_resources(self._settings, name=f"worker-engine {worker}") as resources:
            queues = served_queues(resources, self._registry)
            processes = ProcessExecutor(self._settings.handlers)
            core = core_services(resources)
            desk = self._desk(resources, core, processes, worker)
            keeper = housekeeper(resources, core, worker)
            slots = {queue: self._settings.queues[queue].concurrency for queue in queues}
            heartbeat = Heartbeat(Workers(resources.redis), desk.roster, worker=worker, slots=slots)
            try:
                async with (
                    side_task(resources.consuming.run(), name="consuming"),
                    side_task(self._limit_the_stop(), name="stop"),
                    side_task(heartbeat.run(), name="heartbeat"),
                    asyncio.TaskGroup() as group,
                ):
                    for queue in queues:
                        group.create_task(self._consumer(queue, resources, desk).run(), name=f"consumer {queue}")
                    group.create_task(keeper.run(self._stopping), name="housekeeping")
            finally:
                await processes.aclose()
        log.info("stopped")
        _leave_the_stubborn_behind()

    async def _limit_the_stop(self) -> None:
        await self._stopping.wait()
        log.info("stopping")
        try:
            async with asyncio.timeout(max(0.0, self._settings.shutdown_seconds - RELEASE_SECONDS)):
                await self._stopping_hard.wait()
        except TimeoutError:
            self._stopping_hard.set()

    def _desk(self, resources: Resources, core: CoreServices, processes: ProcessExecutor, worker: str) -> Desk:
        settings = self._settings
        return Desk(
            worker=worker,
            tasks=resources.tasks,
            lists=resources.lists,
            logs=resources.logs,
            archive=resources.archive,
            publisher=resources.publisher,
            endings=core.endings,
            results=resources.results,
            sealer=resources.sealer,
            catalogue=resources.catalogue,
            registry=self._registry,
            processes=processes,
            roster=Roster(),
            datasets=dict(settings.datasets),
            stopping_hard=self._stopping_hard,
            handover=timedelta(seconds=settings.consumer_handover_seconds),
            cancel_grace=timedelta(seconds=settings.cancel_grace_seconds),
            retry_base=timedelta(seconds=settings.retry_base_seconds),
            retry_cap=timedelta(seconds=settings.retry_cap_seconds),
        )

    def _consumer(self, queue: str, resources: Resources, desk: Desk) -> Consumer:
        async def execute(delivery: Delivery) -> None:
            await Execution(desk, delivery).run()

        return Consumer(
            queue,
            self._settings.queues[queue],
            connection=resources.consuming,
            publisher=resources.publisher,
            execute=execute,
            stopping=self._stopping,
        )


def _leave_the_stubborn_behind() -> None:
    """End the process if a handler still runs that swallows its cancellation: the loop's closing would wait for it."""
    if any(task.get_name() == HANDLER_TASK for task in asyncio.all_tasks()):
        log.error("a handler does not stop; ending without it")
        os._exit(0)  # everything is closed, and its task was given back


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
