"""`longhaul`: the command line door. Operators' commands here and beside; users' commands go through HTTP."""

import sys

import typer

from app import __version__
from app.cli import admin, serve, tasks, webhooks
from app.domain.errors import ConfigurationError, LonghaulError

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: trying again does not help

app = typer.Typer(
    name="longhaul",
    help="Long-running work behind an HTTP API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"longhaul {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version_option: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Long-running work behind an HTTP API."""


serve.register(app)
admin.register(app)
tasks.register(app)
webhooks.register(app)


def main() -> None:
    """Run `longhaul`; what goes wrong is one line on standard error and exit status 1, or 78 for the configuration."""
    try:
        app()
    except LonghaulError as error:
        typer.echo(f"longhaul: {error.detail}", err=True)
        sys.exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else 1)
