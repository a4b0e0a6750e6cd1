"""The keeper and its duties, wired from what a worker process has opened."""

from datetime import timedelta

from app.resources import Resources, depth_limits
from app.service.wiring import CoreServices
from app.store.epochs import Epochs
from app.store.leadership import Leadership
from workers.housekeeping.admin_desk import AdminDesk
from workers.housekeeping.birth import Birth
from workers.housekeeping.deliveries import LateWebhooks
from workers.housekeeping.epochs import EpochWatch
from workers.housekeeping.keeper import Keeper
from workers.housekeeping.purge import Purge
from workers.housekeeping.quotas import Quotas
from workers.housekeeping.redriver import Redriver

LEADERSHIP = timedelta(seconds=10)


def housekeeper(resources: Resources, core: CoreServices, worker: str) -> Keeper:
    """Return this worker's keeper."""
    settings = resources.settings
    limits = depth_limits(settings, resources.catalogue)
    redriver = Redriver(
        tasks=resources.tasks,
        archive=resources.archive,
        sealer=resources.sealer,
        publisher=resources.publisher,
        connection=resources.consuming,
        queues=list(limits),
        pauses=resources.archive.pauses,
        patience=timedelta(seconds=settings.redrive_after_seconds),
    )
    return Keeper(
        Leadership(resources.redis, worker, lease=LEADERSHIP),
        [
            EpochWatch(Epochs(resources.redis)),
            Birth(resources.consuming, redriver, limits),
            redriver,
            LateWebhooks(
                resources.archive.deliveries,
                resources.publisher,
                resources.consuming,
                late_after=timedelta(seconds=settings.webhooks.late_after_seconds),
            ),
            AdminDesk(resources.redis, tasks=resources.tasks, archive=resources.archive, control=core.control),
            Quotas(resources.tasks, resources.limits),
            Purge(
                resources.archive,
                resources.results,
                retention=timedelta(days=settings.archive_retention_days),
            ),
        ],
    )
