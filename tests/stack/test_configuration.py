"""The configurations that we ship are ones that the services take, and the stack's own keeps its secrets."""

import base64
import secrets
import stat
from pathlib import Path

import pytest

from app.actions import load_catalogue
from app.domain.errors import ConfigurationError
from app.resources import require_settings_of
from app.settings import load_settings
from stack.configuration import check_configuration, write_configuration
from stack.errors import StackError
from stack.files import write_private
from stack.settings import REPOSITORY, StackSettings


def settings_in(run_directory: Path, **environment: str) -> StackSettings:
    return StackSettings.load({"LONGHAUL_RUN_DIR": str(run_directory), **environment}, dotenv=Path("/nowhere"))


def write(settings: StackSettings) -> Path:
    return write_configuration(
        settings,
        redis_url="redis://longhaul:p@127.0.0.1:1/0",
        amqp_url="amqp://longhaul:p@127.0.0.1:2/longhaul",
        public_url="http://127.0.0.1:3",
    )


EXAMPLE = REPOSITORY / "deploy" / "config.example.yaml"


def test_the_example_for_production_starts_nothing_until_its_secrets_are_changed() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(EXAMPLE, {})
    told = [sentence.partition(":")[0] for sentence in raised.value.detail.split("; ") if "the example's" in sentence]
    assert told == ["redis_url", "amqp_url", "archive_url", "jwt.secret", "encryption_keys.2026-11"]


def test_the_example_for_production_loads_and_has_a_queue_for_each_action(tmp_path: Path) -> None:
    known_key = "Q0hBTkdFLU1FLUNIQU5HRS1NRS1DSEFOR0UtTUUtISE="
    text = EXAMPLE.read_text().replace(known_key, base64.b64encode(secrets.token_bytes(32)).decode())
    file = tmp_path / "config.yaml"
    write_private(file, text.replace("CHANGE-ME", secrets.token_urlsafe()))
    settings = load_settings(file, {})
    require_settings_of(load_catalogue(settings.actions, dataset_ids=settings.datasets.keys()), settings)
    assert not settings.development


def test_the_stacks_configuration_is_one_that_the_services_take(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, LONGHAUL_API_PORT="8765")
    services = check_configuration(write(settings), settings)
    require_settings_of(load_catalogue(services.actions, dataset_ids=services.datasets.keys()), services)
    assert services.development
    assert services.api.port == 8765
    assert set(services.datasets) == {1024, 1025}
    assert all(queue.depth_limit >= 200_000 for queue in services.queues.values())
    limits = services.rate_limits
    assert limits.submissions * 60 / limits.window_seconds >= 100_000
    assert limits.active_tasks >= 200_000


def test_a_directory_with_a_space_and_a_quote_is_no_trouble(tmp_path: Path) -> None:
    run = tmp_path / 'my "run" #1'
    run.mkdir()
    settings = settings_in(run)
    services = check_configuration(write(settings), settings)
    assert services.results_url == (run / "results").as_uri()


def test_the_secrets_stay_the_same_from_run_to_run_and_are_the_owners_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first = check_configuration(write(settings), settings)
    second = check_configuration(write(settings), settings)
    assert first.jwt == second.jwt
    assert first.encryption_keys == second.encryption_keys
    for name in ("config.yaml", "secrets.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_variable_that_nobody_knows_is_one_line_that_names_the_right_one(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, LONGHAUL_LEASE_SECOND="5")
    with pytest.raises(StackError, match="lease_second: unknown key, did you mean 'lease_seconds'"):
        check_configuration(write(settings), settings)


def test_what_is_not_the_stacks_own_reaches_the_services(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, LONGHAUL_LEASE_SECONDS="5")
    assert check_configuration(write(settings), settings).lease_seconds == 5
