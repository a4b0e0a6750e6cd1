"""Settings: the file, then the environment; whatever is wrong stops the start, named, and no secret is ever told."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain.errors import ConfigurationError
from app.settings import Settings, load_settings

SECRET = "jwt-secret-jwt-secret-jwt-secret-0"
SEALING = base64.b64encode(b"sealing-sealing-sealing-sealing-").decode()
PASSWORD = "redis-password"
SECRETS = (SECRET, SEALING, PASSWORD, "sealing-sealing")

DATASET = {"title": "t", "path": "p", "time_column": "t", "series_column": "s"}
VALUES: dict[str, Any] = {
    "redis_url": f"redis://longhaul:{PASSWORD}@127.0.0.1/0",
    "amqp_url": f"amqp://longhaul:{PASSWORD}@127.0.0.1/longhaul",
    "public_url": "https://example.org/",
    "queues": {"report_gen": {"prefetch": 8, "concurrency": 4}, "transform": {}},
    "results_url": "file:///var/lib/longhaul/results",
    "encryption_keys": {"k1": SEALING},
    "jwt": {"secret": SECRET},
}


def load(tmp_path: Path, changes: dict[str, Any] | None = None, **environment: str) -> Settings:
    """Load VALUES, changed, under this environment; a change to `...` leaves the key out."""
    values = {name: value for name, value in (VALUES | (changes or {})).items() if value is not ...}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_settings(path, environment)


def refusal(tmp_path: Path, changes: dict[str, Any] | None = None, **environment: str) -> str:
    """Return the words of the refusal; they hold no secret, and neither does what caused it."""
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, changes, **environment)
    told = f"{raised.value!r} {raised.value.detail} {raised.value.__cause__!r}"
    assert not any(secret in told for secret in SECRETS), told
    return raised.value.detail


def test_a_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.lease_seconds == 15
    assert settings.queues["report_gen"].prefetch == 8
    assert settings.public_url == "https://example.org"  # URLs are built on it
    assert settings.encryption_keys["k1"].get_secret_value() == b"sealing-sealing-sealing-sealing-"
    assert settings.max_attempts == 5


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "at the top": ({"lease_secons": 3}, "lease_secons: unknown key, did you mean 'lease_seconds'?"),
    "in a section": ({"jwt": {"secret": SECRET, "isuer": "x"}}, "jwt.isuer: unknown key, did you mean 'issuer'?"),
    "in a queue": ({"queues": {"a": {"prefech": 1}}}, "queues.a.prefech: unknown key, did you mean 'prefetch'?"),
    "in a dataset": (
        {"datasets": {1: DATASET | {"intervall_seconds": 1}}},
        "datasets.1.intervall_seconds: unknown key, did you mean 'interval_seconds'?",
    ),
    "unlike any": ({"qqqqqq": 1}, "qqqqqq: unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_key_is_named_with_the_right_one(name: str, tmp_path: Path) -> None:
    changes, told = UNKNOWN[name]
    assert refusal(tmp_path, changes) == told


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a missing key": ({"redis_url": ...}, "redis_url: "),
    "a wrong type": ({"lease_seconds": "soon"}, "lease_seconds: "),
    "a value out of bounds": ({"lease_seconds": 0}, "lease_seconds: "),
    "a nested value": ({"queues": {"a": {"prefetch": 0}}}, "queues.a.prefetch: "),
    "a nested rule": ({"queues": {"a": {"prefetch": 1, "concurrency": 2}}}, "queues.a: prefetch must be at least"),
    "a queue's name": ({"queues": {"A B": {}}}, "queues.A B"),
    "a short secret": ({"jwt": {"secret": SECRET[:31]}}, "jwt: HS256 needs a `secret` of 32 bytes"),
    "no secret": ({"jwt": {}}, "jwt: HS256 needs a `secret`"),
    "no public key": ({"jwt": {"algorithm": "RS256"}}, "jwt: RS256 needs a `public_key`"),
    "two places for keys": (
        {"jwt": {"algorithm": "ES256", "public_key": "x", "jwks_url": "https://x"}},
        "jwt: ES256 needs a `public_key` in PEM, or a `jwks_url`, and not both",
    ),
    "a key set at no place": ({"jwt": {"algorithm": "ES256", "jwks_url": "ldap://x"}}, "jwt.jwks_url: must begin with"),
    "an origin with a path": ({"cors_origins": ["https://a/b"]}, "cors_origins: 'https://a/b' is no origin"),
    "every origin": ({"cors_origins": ["*"]}, "cors_origins: '*' is no origin"),
    "an algorithm that is none": ({"jwt": {"algorithm": "none"}}, "jwt.algorithm: "),
    "a key that is no base64": ({"encryption_keys": {"k": SEALING + "!"}}, "encryption_keys.k: not base64"),
    "a short key": ({"encryption_keys": {"k": SEALING[:40]}}, "encryption_keys.k: 32 bytes are needed"),
    "a key's id with a space": ({"encryption_keys": {"a b": SEALING}}, "encryption_keys.a b"),
    "no key": ({"encryption_keys": {}}, "encryption_keys: "),
    "a public URL that is none": ({"public_url": "example.org"}, "public_url: must begin with http"),
    "results elsewhere": ({"results_url": "ftp://x"}, "results_url: must begin with file:///"),
    "a secret in a list": ({"redis_url": [f"redis://{PASSWORD}@h"]}, "redis_url: "),
    "a section that is a text": ({"jwt": SECRET}, "jwt: "),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_without_being_told(name: str, tmp_path: Path) -> None:
    changes, told = WRONG[name]
    assert refusal(tmp_path, changes).startswith(told)


def test_everything_wrong_is_named_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, {"lease_seconds": 0, "max_attemps": 1, "public_url": "x"})
    assert [part.partition(":")[0] for part in told.split("; ")] == ["public_url", "lease_seconds", "max_attemps"]


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        LONGHAUL_LEASE_SECONDS="20",
        LONGHAUL_JWT__ISSUER="https://issuer",
        LONGHAUL_QUEUES__REPORT_GEN__PREFETCH="9",
        LONGHAUL_CORS_ORIGINS="[https://a, https://b]",
        LONGHAUL_DEVELOPMENT="true",
        HOME="/root",
    )
    assert (settings.lease_seconds, settings.jwt.issuer, settings.development) == (20, "https://issuer", True)
    assert (settings.queues["report_gen"].prefetch, settings.queues["report_gen"].concurrency) == (9, 4)
    assert settings.cors_origins == ["https://a", "https://b"]


def test_the_environment_alone_is_enough() -> None:
    keys = f"{{k1: {SEALING}}}"
    given = {
        f"LONGHAUL_{name.upper()}": VALUES[name] for name in ("redis_url", "amqp_url", "public_url", "results_url")
    }
    environment = given | {
        "LONGHAUL_QUEUES": "{a: {}}", "LONGHAUL_ENCRYPTION_KEYS": keys, "LONGHAUL_JWT__SECRET": SECRET
    }  # fmt: skip
    assert load_settings(None, environment).queues.keys() == {"a"}


def test_the_clients_own_variables_are_not_settings(tmp_path: Path) -> None:
    assert load(tmp_path, LONGHAUL_URL="http://x", LONGHAUL_TOKEN="t").redis_url


def test_a_wrong_variable_is_named_as_its_key(tmp_path: Path) -> None:
    assert refusal(tmp_path, LONGHAUL_LEASE_SECONDS="soon").startswith("lease_seconds: ")
    assert refusal(tmp_path, LONGHAUL_LEASE_SECOND="1") == "lease_second: unknown key, did you mean 'lease_seconds'?"
    assert refusal(tmp_path, LONGHAUL_PUBLIC_URL__X="1").startswith(
        "LONGHAUL_PUBLIC_URL__X: public_url is not a section"
    )
    assert refusal(tmp_path, LONGHAUL_JWT__SECRET=SECRET[:20]).startswith("jwt: ")


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    credential = tmp_path / "credential"
    credential.write_text(f"other-{SECRET}\n")
    settings = load(tmp_path, LONGHAUL_JWT__SECRET_FILE=str(credential))
    assert settings.jwt.secret is not None
    assert settings.jwt.secret.get_secret_value() == f"other-{SECRET}"  # its last line break is the editor's


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert str(missing) in refusal(tmp_path, LONGHAUL_JWT__SECRET_FILE=str(missing))
    with pytest.raises(ConfigurationError, match="missing"):
        load_settings(missing, {})


@pytest.mark.parametrize("text", ["a: [", "- a", "text", "a: b: c", f"jwt: {{secret: {SECRET}"])
def test_what_is_no_configuration_is_named_without_its_words(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_settings(path, {})
    assert raised.value.detail.startswith(str(path))
    assert SECRET not in f"{raised.value!r}{raised.value.__cause__!r}"


def test_settings_can_be_printed(tmp_path: Path) -> None:
    settings = load(tmp_path)
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert not any(secret in text for secret in SECRETS)


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).lease_seconds = 1  # type: ignore[misc]
