"""`longhaul admin queues`, `workers`, `stalled`, `pause`, `resume`: the dashboard's operations, in a shell."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from app.cli.serve import ConfigOption
from app.domain.errors import NotFound
from app.settings import LogSettings, load_settings

if TYPE_CHECKING:
    from app.security.principal import Principal
    from app.service.administration import Administration

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
QueueArgument = Annotated[str, typer.Argument(help="As in the configuration.")]
WhyOption = Annotated[str, typer.Option("--why", help="For the audit line.")]

Answer = TypeVar("Answer")


def register(admin: typer.Typer) -> None:
    """Add the commands to `longhaul admin`."""
    admin.command()(queues)
    admin.command()(workers)
    admin.command()(stalled)
    admin.command()(requeue)
    admin.command()(pause)
    admin.command()(resume)


def queues(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how the queues are doing.

    Example: longhaul admin queues --config config.yaml
    """
    found = _ask(config, lambda desk, operator: desk.queues(principal=operator))
    if as_json:
        from app.api.routes.admin import queue_document  # noqa: PLC0415  # `longhaul --help` stays quick

        _print([queue_document(one) for one in found], as_json=True)
        return
    _print([asdict(one) | {"paused": one.paused.reason if one.paused else "-"} for one in found], as_json=False)


def workers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the living workers, with their memory and how many jobs they run.

    Example: longhaul admin workers --config config.yaml
    """
    found = _ask(config, lambda desk, operator: desk.workers(principal=operator))
    if as_json:
        from app.api.routes.admin import worker_document  # noqa: PLC0415  # `longhaul --help` stays quick

        _print([worker_document(one) for one in found], as_json=True)
        return
    rows = [
        {
            "worker": one.id,
            "version": one.version,
            "mib": one.rss_bytes >> 20,
            **{queue.name: f"{queue.running}/{queue.slots}" for queue in one.queues},
        }
        for one in found
    ]
    _print(rows, as_json=False)


def stalled(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List living tasks that do not get on: their worker is silent, or their message was lost.

    Example: longhaul admin stalled --config config.yaml
    """
    found = _ask(config, lambda desk, operator: desk.stalled(principal=operator))
    rows = [
        {
            "task_id": str(one.task.id),
            "action": one.task.action,
            "status": one.task.status.value,
            "reason": one.stalled.reason if one.stalled else "",
            "worker": one.holder.worker if one.holder else "-",
        }
        for one in found
    ]
    _print(rows, as_json=as_json)


def requeue(task_id: UUID, why: WhyOption, config: ConfigOption = None) -> None:
    """Take a running task from its worker: it goes on from its last checkpoint, uncharged.

    Example: longhaul admin requeue 550e8400-e29b-41d4-a716-446655440000 --why "it hangs" --config config.yaml
    """
    _ask(config, lambda desk, operator: desk.requeue(task_id, principal=operator, reason=why))
    typer.echo(f"{task_id} waits again; its worker stops at its next beat")


def pause(queue: QueueArgument, why: WhyOption, config: ConfigOption = None) -> None:
    """Let no worker take anything from a queue until it is resumed. What runs goes on; submissions are accepted.

    Example: longhaul admin pause report_gen --why "the data set is being replaced" --config config.yaml
    """
    _change(config, queue, lambda desk, operator: desk.pause(queue, principal=operator, reason=why))
    typer.echo(f"{queue} is paused: within three seconds no worker takes anything from it")


def resume(queue: QueueArgument, why: WhyOption, config: ConfigOption = None) -> None:
    """Let workers take from a paused queue again.

    Example: longhaul admin resume report_gen --why "it has been replaced" --config config.yaml
    """
    _change(config, queue, lambda desk, operator: desk.resume(queue, principal=operator, reason=why))
    typer.echo(f"{queue} is resumed: within three seconds workers take from it")


def _change(config: Path | None, queue: str, change: "Callable[[Administration, Principal], Awaitable[None]]") -> None:
    try:
        _ask(config, change)
    except NotFound:
        raise typer.BadParameter(f"there is no queue {queue!r}") from None


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = [columns, *([str(row.get(name, "-")) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(columns))]
    for line in table if rows else []:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _ask(config: Path | None, question: "Callable[[Administration, Principal], Awaitable[Answer]]") -> Answer:
    async def ask() -> Answer:
        from app.domain.task import Owner  # noqa: PLC0415
        from app.observability.logging import configure_logging  # noqa: PLC0415
        from app.resources import open_resources  # noqa: PLC0415
        from app.security.principal import Principal, Scope  # noqa: PLC0415
        from app.service.wiring import administration, core_services  # noqa: PLC0415

        configure_logging(LogSettings(level="warning"), stream=sys.stderr)
        # Who may read the configuration, with its keys, may do everything.
        operator = Principal(Owner("shell", getpass.getuser()), frozenset({Scope.ADMIN}), expires_at=0)
        async with open_resources(load_settings(config), name="longhaul admin") as resources:
            return await question(administration(resources, core_services(resources)), operator)

    return asyncio.run(ask())
