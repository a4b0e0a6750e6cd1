"""`longhaul webhook …`: for those who receive webhooks."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

STANDARD_INPUT = Path("-")


def register(app: typer.Typer) -> None:
    """Add the commands to `longhaul`."""
    webhook = typer.Typer(help="For those who receive webhooks.", no_args_is_help=True)
    webhook.callback()(_webhook)
    webhook.command()(verify)
    app.add_typer(webhook, name="webhook")


def _webhook() -> None:
    """For those who receive webhooks."""


def verify(
    body: Annotated[Path, typer.Argument(help="The raw body, as it came; `-` is standard input.")] = STANDARD_INPUT,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="One of the request's headers, `name: value`. Repeatable."),
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="Holds the secret; without it, the variable LONGHAUL_WEBHOOK_SECRET does.")
    ] = None,
    at: Annotated[
        int | None, typer.Option(help="Seconds since the epoch, to check an old one; now, if it is left out.")
    ] = None,
) -> None:
    """Check a webhook's signature, as its receiver must. Exit status 0: it is ours; 1: it is not, and why.

    Example: longhaul webhook verify body.json -H 'webhook-id: …' -H 'webhook-timestamp: …' -H 'webhook-signature: …'
    """
    from app.webhooks import signature  # noqa: PLC0415  # `longhaul --help` stays quick

    secret = secret_file.read_text().strip() if secret_file else os.environ.get("LONGHAUL_WEBHOOK_SECRET", "")
    if not secret:
        raise typer.BadParameter("a secret is needed: --secret-file, or LONGHAUL_WEBHOOK_SECRET")
    headers: dict[str, str] = {}
    for line in header or ():
        name, colon, value = line.partition(":")
        if not colon:
            raise typer.BadParameter(f"{line!r} is no header: name, colon, value")
        headers[name.strip()] = value.strip()
    raw = sys.stdin.buffer.read() if body == STANDARD_INPUT else body.read_bytes()
    try:
        scheme = signature.verify(raw, headers, secret, now=at)
    except signature.SignatureInvalid as error:
        typer.echo(f"not valid: {error.detail}", err=True)
        raise typer.Exit(1) from error
    typer.echo(
        "valid: Standard Webhooks" if scheme == "standard" else "valid: X-Hub-Signature-256, which has no time in it"
    )
