"""The service does not start on secrets that are none: known to everybody, too short, not random, or open to all."""

import asyncio
import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain.errors import ConfigurationError
from app.main import verification_keys
from app.settings import load_settings
from stack.ports import free_port
from tests.security.key_servers import new_pair
from tests.support.service import BIN, configuration

EX_CONFIG = 78
EXAMPLE_SECRET = "CHANGE-ME-to-32-bytes-or-more-of-randomness"
EXAMPLE_KEY = base64.b64encode(b"CHANGE-ME-CHANGE-ME-CHANGE-ME-!!").decode()


def values(directory: Path, **changes: Any) -> dict[str, Any]:
    """Return a configuration for production, which is good but for the changes."""
    url = f"redis://longhaul:{secrets.token_hex(8)}@127.0.0.1:{free_port()}/0"
    return configuration(url, "amqp://127.0.0.1:1/", directory, 1, development=False) | changes


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own ones are for their owner alone."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def written(directory: Path, mode: int = 0o600, **changes: Any) -> Path:
    """Write it; return its path."""
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(values(directory, **changes)))
    path.chmod(mode)
    return path


NO_SECRETS: dict[str, tuple[dict[str, Any], str]] = {
    "the example's secret": ({"jwt": {"secret": EXAMPLE_SECRET}}, "jwt.secret: the example"),
    "in other letters": ({"jwt": {"secret": "please-change_me-please-0123456789abcdef"}}, "jwt.secret: the example"),
    "the example's key": ({"encryption_keys": {"a": EXAMPLE_KEY}}, "encryption_keys.a: the example"),
    "the example's key, retired": (
        {"encryption_keys": {"a": base64.b64encode(secrets.token_bytes(32)).decode(), "b": EXAMPLE_KEY}},
        "encryption_keys.b: the example",
    ),
    "the example's password": ({"amqp_url": "amqp://longhaul:CHANGE-ME@h/v"}, "amqp_url: the example"),
    "a key of zeros": ({"encryption_keys": {"a": "A" * 43 + "="}}, "encryption_keys.a: not random"),
    "a secret of one letter": ({"jwt": {"secret": "a" * 64}}, "jwt.secret: not random"),
    "a short secret": ({"jwt": {"secret": secrets.token_hex(15)}}, "jwt: HS256 needs a `secret` of 32 bytes"),
    "keys by plain http": ({"jwt": {"algorithm": "ES256", "jwks_url": "http://127.0.0.1/"}}, "jwt.jwks_url: http://"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_SECRETS)
def test_what_is_no_secret_is_named(name: str, tmp_path: Path) -> None:
    changes, told = NO_SECRETS[name]
    with pytest.raises(ConfigurationError) as raised:
        load_settings(written(tmp_path, **changes), {})
    assert raised.value.detail.startswith(told)


def test_without_those_it_starts_and_in_development_mode_the_examples_will_do(tmp_path: Path) -> None:
    assert not load_settings(written(tmp_path), {}).development
    assert load_settings(written(tmp_path, jwt={"secret": EXAMPLE_SECRET}, development=True), {}).development


def test_keys_come_by_plain_http_from_loopback_and_in_development_mode_only(tmp_path: Path) -> None:
    for url, development, good in (
        ("http://127.0.0.1:1/keys", True, True),
        ("http://localhost/keys", True, True),
        ("http://id.example.com/keys", True, False),
        ("http://127.0.0.1.example.com/keys", True, False),
        ("https://id.example.com/keys", False, True),
        ("file:///etc/longhaul/keys.json", False, True),
    ):
        jwt = {"algorithm": "RS256", "jwks_url": url}
        path = written(tmp_path, jwt=jwt, development=development)
        if good:
            assert load_settings(path, {}).jwt.jwks_url == url
        else:
            with pytest.raises(ConfigurationError, match="jwks_url"):
                load_settings(path, {})


def test_a_file_that_every_user_may_read_is_refused_if_it_holds_a_secret(open_directory: Path) -> None:
    secret = open_directory / "jwt"
    secret.write_text(secrets.token_hex(32))
    for mode, good in ((0o600, True), (0o640, True), (0o644, False), (0o604, False)):
        secret.chmod(mode)
        for config_mode, environment in ((mode, {}), (0o600, {"LONGHAUL_JWT__SECRET_FILE": str(secret)})):
            path = written(open_directory, config_mode)
            if good:
                assert load_settings(path, environment)
            else:
                with pytest.raises(ConfigurationError, match="every user of this machine may read it"):
                    load_settings(path, environment)
    assert load_settings(written(open_directory, 0o644, development=True), {})


def test_a_file_behind_a_closed_door_is_not_open_and_a_link_is_where_it_leads(open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    assert load_settings(written(closed, 0o644), {})
    link = closed / "link.yaml"
    link.symlink_to(written(open_directory, 0o644))
    with pytest.raises(ConfigurationError, match="every user"):
        load_settings(link, {})


def test_a_file_without_a_secret_may_be_read_by_all(open_directory: Path) -> None:
    bare = values(open_directory, redis_url="redis://127.0.0.1/0")
    key = bare.pop("encryption_keys")
    bare["jwt"] = {"algorithm": "RS256", "jwks_url": "https://id.example.com/keys"}
    path = open_directory / "config.yaml"
    path.write_text(yaml.safe_dump(bare))
    path.chmod(0o644)
    assert load_settings(path, {"LONGHAUL_ENCRYPTION_KEYS": yaml.safe_dump(key, default_flow_style=True)})


@pytest.mark.parametrize("program", [["longhaul", "serve"], ["worker-engine"]])
async def test_the_program_ends_with_one_line_and_the_status_for_a_wrong_configuration(
    program: list[str], open_directory: Path
) -> None:
    config = written(open_directory, 0o644, encryption_keys={"a": EXAMPLE_KEY})
    name, *arguments = program
    process = await asyncio.create_subprocess_exec(
        BIN / name, *arguments, "--config", config,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert (process.returncode, output) == (EX_CONFIG, b"")
    assert errors.decode().startswith(f"{name}: encryption_keys.a: the example's secret")
    assert f"{config}: every user of this machine may read it" in errors.decode()
    assert errors.count(b"\n") == 1
    assert EXAMPLE_KEY.encode() not in errors


def test_a_public_key_that_is_none_or_not_for_the_algorithm_stops_the_start(tmp_path: Path) -> None:
    rsa, elliptic = new_pair("RS256"), new_pair("ES256")
    for algorithm, pem in (("RS256", "x"), ("RS256", elliptic.public().decode()), ("ES256", rsa.public().decode()),
                           ("ES256", elliptic.private_pem)):  # fmt: skip
        settings = load_settings(written(tmp_path, jwt={"algorithm": algorithm, "public_key": pem}), {})
        with pytest.raises(ConfigurationError, match=r"jwt\.public_key"):
            verification_keys(settings.jwt)
