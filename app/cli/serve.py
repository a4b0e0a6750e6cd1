"""`longhaul serve` and `longhaul token`: run the API, and make a token to try it with."""

from pathlib import Path
from socket import socket
from typing import Annotated

import typer

from app.domain.errors import ConfigurationError
from app.settings import load_settings

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file; LONGHAUL_* overrides it.")]

DAY = 86_400


def register(app: typer.Typer) -> None:
    """Add the commands to `longhaul`."""
    app.command()(serve)
    app.command()(token)


def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Where to listen, instead of `api.host`.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Instead of `api.port`.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="How many, each on one event loop.")] = 1,
) -> None:
    """Run the API until SIGTERM: one process on one event loop, or several that share the port.

    Example: longhaul serve --config /etc/longhaul/config.yaml --processes 4
    """
    from app.api.processes import Processes  # noqa: PLC0415
    from app.api.server import ApiServer, allow_many_connections  # noqa: PLC0415  # `longhaul --help` stays quick
    from app.main import create_app  # noqa: PLC0415
    from app.observability.crash_points import arm_crash_point  # noqa: PLC0415
    from app.observability.logging import configure_logging  # noqa: PLC0415

    settings = load_settings(config)
    configure_logging(settings.log)
    arm_crash_point(development=settings.development)
    allow_many_connections()
    server = ApiServer(
        create_app(settings), settings.api, host=host or settings.api.host, port=port or settings.api.port
    )

    def run(*sockets: socket) -> int:
        server.run(list(sockets) or None)
        return 0 if server.started else 1

    status = run() if processes == 1 else Processes(run, server.config.bind_socket()).run(processes)
    if status:
        raise typer.Exit(status)


def token(
    subject: Annotated[str, typer.Option(help="Whose token it is: `sub`.")],
    config: ConfigOption = None,
    scope: Annotated[str | None, typer.Option(help="Space-separated; without it, submit and read.")] = None,
    ttl_seconds: Annotated[int, typer.Option(min=1, help="How long it lasts.")] = DAY,
) -> None:
    """Print an access token, for development. In production an identity provider issues them.

    Example: longhaul token --config config.yaml --subject alice
    """
    from app.security.tokens import mint_access_token  # noqa: PLC0415

    jwt = load_settings(config).jwt
    if jwt.secret is None:
        raise ConfigurationError(f"Tokens can be made with HS256 only; this configuration has {jwt.algorithm}.")
    typer.echo(
        mint_access_token(
            secret=jwt.secret.get_secret_value(),
            issuer=jwt.issuer,
            audience=jwt.audience,
            subject=subject,
            scopes=scope,
            ttl_seconds=ttl_seconds,
        )
    )
