"""Settings: one frozen model for API and workers. YAML file < `LONGHAUL_*` environment < `LONGHAUL_*_FILE`.

An unknown key or a wrong value stops the start, with the key's name and, where one is near, the right one. Each part of
the program is given its section, never the whole, and nothing else reads the environment.
"""

import base64
import binascii
import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from app.domain.errors import ConfigurationError

PREFIX = "LONGHAUL_"
CLIENT_VARIABLES = frozenset({"LONGHAUL_URL", "LONGHAUL_TOKEN"})  # the command line client's, not the services'

HMAC_KEY_BYTES = 32  # RFC 7518, section 3.2: as long as the hash, at least
AES_KEY_BYTES = 32


class Section(BaseModel):
    """A part of the settings: immutable, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class QueueSettings(Section):
    """How one queue is consumed, and how much may wait in it."""

    prefetch: int = Field(default=4, ge=1, le=65535, description="Deliveries that a consumer holds at once.")
    concurrency: int = Field(default=4, ge=1, le=10_000, description="Jobs that a worker-engine runs at once.")
    executor: Literal["auto", "inline", "process"] = Field(
        default="auto",
        description="What the queue's handlers must be: `async def` on the loop (inline), `def` in a child (process).",
    )
    depth_limit: int = Field(
        default=100_000, ge=1, description="Waiting tasks. The broker's own limit stands at twice that, as a backstop."
    )

    @model_validator(mode="after")
    def _a_slot_needs_a_delivery(self) -> Self:
        if self.prefetch < self.concurrency:
            raise ValueError("prefetch must be at least concurrency, or slots stay empty")
        return self


class Dataset(Section):
    """A table that the data jobs may read, by its id in `datasets`."""

    title: str
    path: str = Field(
        description="A CSV file (also zipped) or a Parquet file; `package:NAME/PATH` is a file of an installed package."
    )
    time_column: str = Field(description="Holds RFC 3339 times.")
    series_column: str = Field(description="Tells the series apart, for instance a station.")
    interval_seconds: int | None = Field(
        default=None, ge=1, description="How often a series has a row; null for events, which come when they come."
    )


class JwtSettings(Section):
    """How bearer tokens are verified. The algorithm is set here and never by a token."""

    algorithm: Literal["HS256", "RS256", "ES256"] = "HS256"
    secret: SecretStr | None = Field(default=None, description="HS256: at least 32 bytes.")
    public_key: str | None = Field(default=None, description="RS256 and ES256: PEM.")
    issuer: str = "longhaul"
    audience: str = "longhaul"
    leeway_seconds: int = Field(default=30, ge=0, le=300)

    @model_validator(mode="after")
    def _one_fitting_key(self) -> Self:
        if self.algorithm == "HS256":
            if self.secret is None or len(self.secret.get_secret_value().encode()) < HMAC_KEY_BYTES:
                raise ValueError(f"HS256 needs a `secret` of {HMAC_KEY_BYTES} bytes or more")
        elif not self.public_key:
            raise ValueError(f"{self.algorithm} needs a `public_key` in PEM")
        return self


class ApiSettings(Section):
    """Where the API listens, and what it takes."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    max_body_bytes: int = Field(default=65_536, ge=1024, description="Of a submission.")
    shutdown_seconds: int = Field(default=10, ge=1, description="How long open requests may take to end.")
    max_streams: int = Field(
        default=10_000, ge=1, description="WebSockets, event streams and long polls that a process has open at once."
    )


class LogSettings(Section):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


def _aes_key(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError("not base64") from error
    if isinstance(value, bytes) and len(value) != AES_KEY_BYTES:
        raise ValueError(f"{AES_KEY_BYTES} bytes are needed, as base64")
    return value


SealingKey = Annotated[SecretBytes, BeforeValidator(_aes_key)]


class Settings(Section):
    """Everything that can be set. Required: `redis_url`, `amqp_url`, `public_url`, `jwt`, `encryption_keys`."""

    redis_url: SecretStr
    amqp_url: SecretStr
    public_url: str = Field(description="The service as callers reach it, for the URLs that we hand out.")
    development: bool = Field(default=False, description="Allows what production must not have.")

    actions: list[str] = Field(
        default=["app.actions.generate_report", "app.actions.transform_dataset"],
        description="Modules of typed contracts.",
    )
    handlers: list[str] = Field(
        default=["workers.handlers.generate_report", "workers.handlers.transform_dataset"],
        description="Modules of work; only worker-engine imports them.",
    )
    queues: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")], QueueSettings]
    datasets: dict[int, Dataset] = Field(default_factory=dict)

    lease_seconds: int = Field(default=15, ge=3, le=3600, description="How long a claim holds without a beat.")
    max_attempts: int = Field(default=5, ge=1, le=100)
    status_ttl_hours: int = Field(default=24, ge=1, le=720, description="How long Redis shows an ended task.")
    result_ttl_hours: int = Field(default=168, ge=1)
    task_token_ttl_hours: int = Field(default=168, ge=1)
    publish_timeout_seconds: float = Field(default=3.0, gt=0, le=30, description="For a publisher confirm.")
    max_poll_wait_seconds: int = Field(
        default=50, ge=0, le=290, description="For a status with `Prefer: wait`; below the proxy's patience."
    )
    max_submit_wait_seconds: int = Field(default=8, ge=0, le=290, description="For a submission with `Prefer: wait`.")
    shutdown_seconds: int = Field(default=30, ge=1, description="How long a stopping worker lets jobs end.")

    consumer_handover_seconds: float = Field(
        default=600, ge=1, description="After how long a running job leaves a copy in the queue and acknowledges."
    )
    cancel_grace_seconds: float = Field(default=10, ge=0, description="Until a handler that ignores it is killed.")
    retry_base_seconds: float = Field(default=2, gt=0, description="Bound of the first retry's delay; it doubles.")
    retry_cap_seconds: float = Field(default=300, gt=0, description="Upper bound of every retry's delay.")
    redrive_after_seconds: float = Field(
        default=30, ge=1, description="After how long a waiting task that nobody has seen gets a new message."
    )

    archive_url: SecretStr = Field(
        default=SecretStr("sqlite:////var/lib/longhaul/archive.db"),
        description="Where ended tasks are remembered: `sqlite:////path` or `postgresql://…`.",
    )
    archive_retention_days: int = Field(default=90, ge=1)
    results_url: str = Field(description="Where result files are kept: `file:///…` or `s3://bucket/prefix`.")
    encryption_keys: dict[str, SealingKey] = Field(
        min_length=1, description="Key id to 32 bytes as base64. The first seals, all open."
    )
    jwt: JwtSettings
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()
    cors_origins: list[str] = Field(default_factory=list)

    @field_validator("public_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @field_validator("archive_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("sqlite:///", "postgresql://")):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return value

    @field_validator("results_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(("file:///", "s3://")):
            raise ValueError("must begin with file:/// or s3://")
        return value


def load_settings(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: the file, then what the environment overrides.

    `LONGHAUL_LEASE_SECONDS=20` sets a key, `LONGHAUL_JWT__ISSUER=…` a nested one (values are YAML), and
    `LONGHAUL_JWT__SECRET_FILE=/run/credentials/…` takes a value from a file, its last line break removed.

    Args:
        path: A YAML file; None to go by the environment alone.
        environment: The process's environment.

    Raises:
        ConfigurationError: A file cannot be read, a key is unknown, or a value is wrong. Says which.
    """
    values = _read_yaml(path) if path else {}
    for name, text in sorted(environment.items()):
        if name.startswith(PREFIX) and name not in CLIENT_VARIABLES:
            _overlay(values, name, text)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentences(error))) from None  # the cause would show the values


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise ConfigurationError(f"{path}: not valid YAML{line}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: keys and values are expected")
    return values


def _overlay(values: dict[str, Any], name: str, text: str) -> None:
    """Set one environment variable's value in the nested mapping."""
    key = name.removeprefix(PREFIX).lower()
    if key.endswith("_file"):
        key = key.removesuffix("_file")
        try:
            value: Any = Path(text).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name}: {text} cannot be read") from error
    else:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if not isinstance(value, bool | int | float | list | dict):
            value = text
    *sections, last = key.split("__")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigurationError(f"{name}: {section} is not a section")
        values = inner
    values[last] = value


def _sentences(error: ValidationError) -> Iterable[str]:
    for one in error.errors(include_input=False, include_url=False):
        where = [str(part) for part in one["loc"] if part != "[key]"]
        key = ".".join(where) or "settings"
        if one["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where[-1], _keys_of(Settings, where[:-1]), n=1)
            yield f"{key}: unknown key" + (f", did you mean {near[0]!r}?" if near else "")
        else:
            yield f"{key}: {one['msg'].removeprefix('Value error, ')}"


def _keys_of(section: Any, path: list[str]) -> list[str]:
    """Return the known keys of the section at `path`."""
    for part in path:
        field = section.model_fields.get(part) if isinstance(section, type) and issubclass(section, BaseModel) else None
        if field is not None:
            section = field.annotation
        else:  # a mapping's key, such as the name of a queue
            section = get_args(section)[-1] if get_args(section) else section
    if isinstance(section, type) and issubclass(section, BaseModel):
        return list(section.model_fields)
    return []
