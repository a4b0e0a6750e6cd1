"""`longhaul admin dead …`: the tasks that were given up."""

import asyncio
import json
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from app.cli.serve import ConfigOption
from app.domain.errors import Undecryptable
from app.domain.task import rfc3339
from app.settings import load_settings

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many of the oldest are looked at.")]


def commands() -> typer.Typer:
    """Return the commands."""
    dead = typer.Typer(help="Tasks that were given up: their messages are kept, with the reason.", no_args_is_help=True)
    dead.command("list")(list_letters)
    dead.command()(redrive)
    return dead


def list_letters(
    config: ConfigOption = None,
    limit: Limit = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List dead letters, oldest first. Nothing is changed, and no payload is shown.

    Example: longhaul admin dead list --config config.yaml
    """
    for row in asyncio.run(_rows(config, limit)):
        typer.echo(json.dumps(row) if as_json else "  ".join(row.values()))


def redrive(
    task_ids: Annotated[list[UUID] | None, typer.Argument(help="Of these tasks; see --all.")] = None,
    config: ConfigOption = None,
    limit: Limit = 1000,
    everything: Annotated[bool, typer.Option("--all", help="Of all of them.")] = False,
) -> None:
    """Run given-up tasks again, from their last checkpoint, and remove their letters.

    Example: longhaul admin dead redrive --config config.yaml 550e8400-e29b-41d4-a716-446655440000
    """
    if bool(task_ids) == everything:
        raise typer.BadParameter("name tasks, or say --all")
    wanted = None if everything else frozenset(task_ids or ())
    again, gone, shut = asyncio.run(_redrive(config, wanted, limit))
    typer.echo(f"{again} run again, {gone} needed nothing any more")
    missing = len(wanted) - again - gone - shut if wanted is not None else 0
    if shut:
        typer.echo(f"longhaul: {shut} do not open under the configured keys, and stay", err=True)
    if missing > 0:
        typer.echo(f"longhaul: {missing} of them have no dead letter", err=True)
    if shut or missing > 0:
        raise typer.Exit(1)


async def _rows(config: Path | None, limit: int) -> list[dict[str, str]]:
    from app.broker.connection import connect  # noqa: PLC0415  # `longhaul --help` stays quick
    from app.broker.dead_letters import dead_letters  # noqa: PLC0415

    settings = load_settings(config)
    async with (
        await connect(settings.amqp_url.get_secret_value(), name="longhaul admin", tls=settings.tls) as connection,
        dead_letters(connection, limit=limit) as letters,
    ):
        return [
            {
                "task_id": str(letter.task_id or "-"),
                "buried_at": rfc3339(letter.buried_at) if letter.buried_at else "-",
                "queue": letter.queue,
                "action": letter.action,
                "reason": letter.reason,
            }
            for letter in letters
        ]


async def _redrive(config: Path | None, wanted: frozenset[UUID] | None, limit: int) -> tuple[int, int, int]:
    from app.broker.connection import connect  # noqa: PLC0415
    from app.broker.dead_letters import dead_letters  # noqa: PLC0415
    from app.resources import open_resources  # noqa: PLC0415
    from app.service.dead_letters import DeadLetterDesk  # noqa: PLC0415
    from app.service.wiring import core_services  # noqa: PLC0415

    settings = load_settings(config)
    again = gone = shut = 0
    async with (
        open_resources(settings, name="longhaul admin") as resources,
        await connect(settings.amqp_url.get_secret_value(), name="longhaul admin", tls=settings.tls) as connection,
        dead_letters(connection, limit=limit) as letters,
    ):
        desk = DeadLetterDesk(archive=resources.archive, control=core_services(resources).control)
        for letter in letters:
            if wanted is None or letter.task_id in wanted:
                try:
                    runs_again = await desk.redrive(letter)
                except Undecryptable:
                    shut += 1
                    continue
                if runs_again:
                    again += 1
                else:
                    gone += 1
    return again, gone, shut
