"""Desk: what every execution of an engine shares."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from app.archive.archive import Archive
from app.broker.publisher import Publisher
from app.domain.action import ActionCatalogue
from app.results.store import ResultStore
from app.security.sealing import Sealer
from app.service.announcing import Announcements
from app.service.ending import Endings
from app.settings import Dataset
from app.store.listing import OwnerLists
from app.store.task_logs import TaskLogs
from app.store.tasks import TaskStore
from workers.executors.process import ProcessExecutor
from workers.heartbeat import Roster
from workers.registry import Registry
from workers.signs import Sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every execution of an engine shares."""

    worker: str
    tasks: TaskStore
    lists: OwnerLists
    logs: TaskLogs
    archive: Archive
    publisher: Publisher
    endings: Endings
    announcements: Announcements
    results: ResultStore
    sealer: Sealer
    catalogue: ActionCatalogue
    registry: Registry
    processes: ProcessExecutor
    roster: Roster
    """What runs at the moment, for the heartbeat."""
    datasets: dict[int, Dataset]
    workspaces: Path
    """The directory below which each attempt has one of its own."""
    in_hand: dict[object, UUID]
    """The tasks that are worked on at the moment, by their execution."""
    stopping_hard: Sign
    """Set when running jobs must be given back."""
    handover: timedelta
    """How long a job holds its delivery before it leaves a copy in the queue."""
    cancel_grace: timedelta
    """How long a handler that was asked to stop may take."""
    retry_base: timedelta
    retry_cap: timedelta
