"""`longhaul admin …`: what operators do."""

import asyncio
from typing import Annotated

import typer

from app.actions import load_catalogue
from app.cli import dead, operations
from app.cli.serve import ConfigOption
from app.domain.errors import BrokerUnavailable
from app.observability.causes import cause_of
from app.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the commands to `longhaul`."""
    admin = typer.Typer(help="What operators do.", no_args_is_help=True)
    admin.command()(declare)
    admin.add_typer(dead.commands(), name="dead")
    operations.register(admin)
    app.add_typer(admin, name="admin")


def declare(
    config: ConfigOption = None,
    amqp_url: Annotated[
        str | None, typer.Option(help="With the right to configure; the services' own user need not have it.")
    ] = None,
    nobody_runs: Annotated[
        bool, typer.Option("--nobody-runs", help="No API and no worker is running: nothing need be waited for.")
    ] = False,
) -> None:
    """Declare exchanges and queues, and bring the archive's tables up to date: once, at deployment.

    What is there already stays as it is. Nothing is lost by running it twice.

    Example: longhaul admin declare --config config.yaml
    """
    settings = load_settings(config)
    new = asyncio.run(_declare(settings, amqp_url or settings.amqp_url.get_secret_value(), nobody_runs=nobody_runs))
    typer.echo("declared" if new else "everything is declared already")


async def _declare(settings: Settings, amqp_url: str, *, nobody_runs: bool) -> bool:
    from aio_pika.exceptions import AMQPError  # noqa: PLC0415  # `longhaul --help` stays quick

    from app.archive.upgrading import upgrade  # noqa: PLC0415
    from app.broker import connection, topology  # noqa: PLC0415
    from app.resources import depth_limits, require_settings_of  # noqa: PLC0415
    from app.store.connection import open_redis  # noqa: PLC0415
    from app.store.epochs import Epochs  # noqa: PLC0415

    catalogue = load_catalogue(settings.actions, dataset_ids=settings.datasets.keys())
    require_settings_of(catalogue, settings)
    await upgrade(settings.archive_url.get_secret_value())
    async with await connection.connect(amqp_url, name="longhaul admin", tls=settings.tls) as opened:
        try:
            new = await topology.declare(opened, depth_limits(settings, catalogue))
            if new:
                await topology.put_birth_mark(opened)
        except (AMQPError, OSError, RuntimeError) as error:  # aiormq raises RuntimeError on a closed one
            raise BrokerUnavailable(f"RabbitMQ did not take everything: {cause_of(error)}. Declare again.") from error
    if nobody_runs:
        async with open_redis(settings.redis_url.get_secret_value(), settings.tls) as redis:
            await Epochs(redis).count_as_old()
    return new
