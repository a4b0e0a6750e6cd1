"""The sender, wired from what a worker process has opened."""

from datetime import timedelta
from random import SystemRandom

from app.resources import Resources
from app.service.wiring import CoreServices
from workers.webhooks.breaker import Receivers
from workers.webhooks.posting import Poster
from workers.webhooks.sender import Sender


def sender(resources: Resources, core: CoreServices) -> Sender:
    """Return this worker's sender."""
    settings = resources.settings.webhooks
    timeout, random = timedelta(seconds=settings.timeout_seconds), SystemRandom()
    return Sender(
        archive=resources.archive,
        tasks=resources.tasks,
        publisher=resources.publisher,
        announcements=core.announcements,
        secrets=core.secrets,
        destinations=resources.destinations,
        poster=Poster(
            resources.destinations,
            resources.lookup,
            timeout=timeout,
            connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
            ca_file=settings.ca_file,
        ),
        receivers=Receivers(
            slots=settings.host_concurrency,
            failures=settings.breaker_failures,
            pause=timedelta(seconds=settings.breaker_seconds),
            random=random,
        ),
        schedule=[timedelta(seconds=seconds) for seconds in settings.schedule_seconds],
        timeout=timeout,
        random=random,
    )
