"""Services: everything that can be asked, wired from what a process has opened. API and workers both start here."""

from dataclasses import dataclass
from datetime import timedelta

from app.resources import Resources, depth_limits
from app.security.links import ResultLinks
from app.service.administration import Administration
from app.service.announcing import Announcements
from app.service.control import Control
from app.service.dead_letters import DeadLetterDesk
from app.service.ending import Endings
from app.service.publication import Publications
from app.service.signing import SigningSecrets
from app.service.status import Statuses
from app.store.census import Census
from app.store.workers import Workers


@dataclass(frozen=True, slots=True)
class CoreServices:
    """What both the API and a worker's housekeeping use."""

    statuses: Statuses
    announcements: Announcements
    links: ResultLinks
    secrets: SigningSecrets
    endings: Endings
    publications: Publications
    control: Control


def core_services(resources: Resources) -> CoreServices:
    """Wire them."""
    statuses = Statuses(tasks=resources.tasks, lists=resources.lists, archive=resources.archive)
    links = ResultLinks(resources.sealer.derived_keys("result links"))
    announcements = Announcements(
        deliveries=resources.archive.deliveries,
        publisher=resources.publisher,
        sealer=resources.sealer,
        links=links,
        public_url=resources.settings.public_url,
    )
    endings = Endings(
        tasks=resources.tasks,
        archive=resources.archive,
        limits=resources.limits,
        announcements=announcements,
        result_ttl=timedelta(hours=resources.settings.result_ttl_hours),
    )
    publications = Publications(tasks=resources.tasks, publisher=resources.publisher, archive=resources.archive)
    control = Control(
        statuses=statuses,
        tasks=resources.tasks,
        lists=resources.lists,
        limits=resources.limits,
        archive=resources.archive,
        endings=endings,
        publications=publications,
        results=resources.results,
        sealer=resources.sealer,
    )
    return CoreServices(
        statuses=statuses,
        announcements=announcements,
        links=links,
        secrets=SigningSecrets(
            deliveries=resources.archive.deliveries,
            sealer=resources.sealer,
            overlap=timedelta(hours=resources.settings.webhooks.secret_overlap_hours),
        ),
        endings=endings,
        publications=publications,
        control=control,
    )


def administration(resources: Resources, core: CoreServices) -> Administration:
    """Wire what answers operators."""
    return Administration(
        tasks=resources.tasks,
        census=Census(resources.redis),
        workers=Workers(resources.redis),
        archive=resources.archive,
        connection=resources.publishing,
        amqp_url=resources.settings.amqp_url.get_secret_value(),
        tls=resources.settings.tls,
        desk=DeadLetterDesk(archive=resources.archive, control=core.control),
        announcements=core.announcements,
        depth_limits=depth_limits(resources.settings, resources.catalogue),
        queue_of={action.action_name: action.queue_name for action in resources.catalogue},
    )
