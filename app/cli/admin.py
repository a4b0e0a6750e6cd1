"""`longhaul admin …`: what operators do."""

import asyncio
from typing import Annotated

import typer

from app.actions import load_catalogue
from app.cli.serve import ConfigOption
from app.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the commands to `longhaul`."""
    admin = typer.Typer(help="What operators do.", no_args_is_help=True)
    admin.command()(declare)
    app.add_typer(admin, name="admin")


def declare(
    config: ConfigOption = None,
    amqp_url: Annotated[
        str | None, typer.Option(help="With the right to configure; the services' own user need not have it.")
    ] = None,
) -> None:
    """Declare the exchanges and queues, once, at deployment. What is there already stays as it is.

    Example: longhaul admin declare --config config.yaml
    """
    settings = load_settings(config)
    new = asyncio.run(_declare(settings, amqp_url or settings.amqp_url.get_secret_value()))
    typer.echo("declared" if new else "everything is declared already")


async def _declare(settings: Settings, amqp_url: str) -> bool:
    from app.broker import connection, topology  # noqa: PLC0415  # `longhaul --help` stays quick
    from app.resources import depth_limits, require_settings_of  # noqa: PLC0415

    catalogue = load_catalogue(settings.actions, dataset_ids=settings.datasets.keys())
    require_settings_of(catalogue, settings)
    async with await connection.connect(amqp_url, name="longhaul admin") as opened:
        return await topology.declare(opened, depth_limits(settings, catalogue))
