"""`worker-engine`: the daemon's flags, and its exit status."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from app import __version__
from app.actions import load_catalogue
from app.domain.errors import ConfigurationError, LonghaulError
from app.observability.crash_points import arm_crash_point
from app.observability.logging import configure_logging
from app.resources import require_settings_of
from app.settings import Settings, load_settings
from workers.engine import Engine
from workers.registry import Registry

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"worker-engine {__version__}")
        raise typer.Exit


def work(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A YAML file; LONGHAUL_* in the environment overrides it.")
    ] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration, and exit.")] = False,
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take jobs from RabbitMQ and do them, until SIGTERM.

    SIGTERM (or Ctrl-C) lets running jobs end for `shutdown_seconds` and gives back the rest, to go on from their last
    checkpoint elsewhere; a second one gives them back at once.

    Exit status: 0 after a SIGTERM; 1 when a server cannot be reached at the start, or Redis stays away for longer than
    redis_patience_seconds; 75 when it has grown past max_rss_mb, has done its jobs, and another should take its place;
    78 when the configuration cannot be used.

    Example: worker-engine --config /etc/worker/config.yaml
    """
    settings = load_settings(config)
    if check_config:
        _check(settings)
        typer.echo("The configuration is in order.")
        return
    configure_logging(settings.log)
    arm_crash_point(development=settings.development)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_work(settings))
    raise typer.Exit(status)


async def _work(settings: Settings) -> int:
    return await Engine(settings).run()


def _check(settings: Settings) -> None:
    require_settings_of(load_catalogue(settings.actions, dataset_ids=settings.datasets.keys()), settings)
    Registry(settings.handlers)


def main() -> None:
    """Run `worker-engine`; what stops a start is one line on standard error."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(work)
    try:
        app(prog_name="worker-engine")
    except LonghaulError as error:
        typer.echo(f"worker-engine: {error.detail}", err=True)
        sys.exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else 1)
