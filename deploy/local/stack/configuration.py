"""The services' configuration: the template, with this stack's addresses and its own secrets."""

import base64
import json
import secrets
from pathlib import Path
from string import Template

from app.domain.errors import ConfigurationError
from app.settings import Settings, load_settings
from stack.errors import StackError
from stack.files import write_private
from stack.settings import StackSettings

TEMPLATE = Path(__file__).parents[1] / "config.template.yaml"


def write_configuration(settings: StackSettings, *, redis_url: str, amqp_url: str, public_url: str) -> Path:
    """Write `config.yaml` (mode 0600) and return its path. The secrets in it stay the same from run to run."""
    run = settings.run_directory
    results = run / "results"
    results.mkdir(exist_ok=True)
    values = {
        "public_url": public_url,
        "redis_url": redis_url,
        "amqp_url": amqp_url,
        "results_url": results.as_uri(),
        "archive_url": f"sqlite:///{run}/archive.db",
        "api_port": settings.api_port,
        **_secrets(run / "secrets.json"),
    }
    # JSON's strings and numbers are YAML's too, whatever characters a path may hold.
    text = Template(TEMPLATE.read_text()).substitute({name: json.dumps(value) for name, value in values.items()})
    file = run / "config.yaml"
    write_private(file, text)
    return file


def check_configuration(file: Path, settings: StackSettings) -> Settings:
    """Read it as the services will.

    Raises:
        StackError: They would refuse it, for instance for a `LONGHAUL_*` variable that nobody knows.
    """
    try:
        return load_settings(file, settings.service_environment)
    except ConfigurationError as error:
        raise StackError(
            f"the services' configuration is wrong: {error.detail} ({file}, LONGHAUL_* and .env)"
        ) from error


def _secrets(file: Path) -> dict[str, str]:
    if not file.exists():
        made = {
            "jwt_secret": secrets.token_urlsafe(48),
            "encryption_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        write_private(file, json.dumps(made))
    kept: dict[str, str] = json.loads(file.read_text())
    return kept
