"""Settings: one frozen model for API and workers. YAML file < `LONGHAUL_*` environment < `LONGHAUL_*_FILE`.

An unknown key or a wrong value stops the start, with the key's name and, where one is near, the right one. Each part of
the program is given its section, never the whole, and nothing else reads the environment.
"""

import base64
import binascii
import difflib
import os
import re
import ssl
import stat
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import parse_qsl, urlsplit

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
FILE_SUFFIX = "_file"
CLIENT_VARIABLES = frozenset({"LONGHAUL_URL", "LONGHAUL_TOKEN", "LONGHAUL_WEBHOOK_SECRET"})
"""The command line client's, not the services'."""

HMAC_KEY_BYTES = 32  # RFC 7518, section 3.2: as long as the hash, at least
AES_KEY_BYTES = 32
EXAMPLE = re.compile(r"change.?me|example.?secret", re.IGNORECASE)
"""What stands in our example files where a secret belongs."""
FEWEST_CHARACTERS = 8
"""A random key of 32 bytes has more than twenty different ones."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


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
    jwks_url: str | None = Field(
        default=None,
        description="Instead of it, a key set: `https://…`, `file:///…`, in development also `http://` on loopback.",
    )
    issuer: str = "longhaul"
    audience: str = "longhaul"
    leeway_seconds: int = Field(default=30, ge=0, le=300)
    only_access_tokens: bool = Field(
        default=False, description="Whether a token's `typ` must be `at+jwt` (RFC 9068), as an ID token's never is."
    )

    @model_validator(mode="after")
    def _one_fitting_key(self) -> Self:
        if self.algorithm == "HS256":
            if self.secret is None or len(self.secret.get_secret_value().encode()) < HMAC_KEY_BYTES:
                raise ValueError(f"HS256 needs a `secret` of {HMAC_KEY_BYTES} bytes or more")
        elif bool(self.public_key) == bool(self.jwks_url):
            raise ValueError(f"{self.algorithm} needs a `public_key` in PEM, or a `jwks_url`, and not both")
        return self

    @field_validator("jwks_url")
    @classmethod
    def _known_place(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "file:///", "http://")):
            raise ValueError("must begin with https:// or file:///")
        return value


class ApiSettings(Section):
    """Where the API listens, and what it takes."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    max_body_bytes: int = Field(default=65_536, ge=1024, description="Of a submission.")
    max_requests: int = Field(default=10_000, ge=1, description="At once, in one process.")
    max_watchers: int = Field(
        default=10_000, ge=1, description="WebSockets, event streams and long polls at once, in one process."
    )
    max_watchers_per_owner: int = Field(default=1_000, ge=1, description="Of these, one owner's.")
    shutdown_seconds: int = Field(default=10, ge=1, description="How long open requests may take to end.")


class TlsSettings(Section):
    """How RabbitMQ (`amqps`) and Redis (`rediss`) prove who they are, and we to them. They are always checked."""

    ca_file: Path | None = Field(default=None, description="PEM; the system's authorities when omitted.")
    certificate_file: Path | None = Field(default=None, description="Ours, in PEM, for servers that ask for one.")
    key_file: Path | None = Field(default=None, description="Its key, in PEM.")

    @model_validator(mode="after")
    def _a_certificate_needs_its_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("`certificate_file` and `key_file` go together")
        return self

    def context(self) -> ssl.SSLContext:
        """Return what checks a server: its chain and its host name, TLS 1.2 or newer.

        Raises:
            ConfigurationError: A file cannot be read, or is not what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one, too
            raise ConfigurationError(f"tls.ca_file: {self.ca_file} cannot be used: {_words(error)}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file is not None and self.key_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file)
            except OSError as error:
                both = f"{self.certificate_file} and {self.key_file}"
                raise ConfigurationError(f"tls.certificate_file: {both} cannot be used: {_words(error)}") from error
        return context


DEFAULT_TLS: Final = TlsSettings()


def _words(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return reason.replace("_", " ").lower() if reason else error.strerror or str(error)


class RateLimitSettings(Section):
    """What each owner may use, over all API processes."""

    submissions: int = Field(
        default=600, ge=1, description="At once, and in each window on average: a token bucket of this size."
    )
    window_seconds: int = Field(default=60, ge=1, le=86_400, description="In which an empty bucket fills.")
    active_tasks: int = Field(default=10_000, ge=1, description="Waiting and running tasks.")


class LogSettings(Section):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class CallbackSettings(Section):
    """Where webhooks may go: to public addresses, and where this opens more."""

    allow: list[str] = Field(
        default_factory=list,
        description="Host names, addresses and networks (CIDR) that may be called although they are not public.",
    )
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default=[80, 443, 8080, 8443], description="Those that may stand in a callback_url; an allowed host has any."
    )

    @field_validator("allow")
    @classmethod
    def _hosts_and_networks(cls, value: list[str]) -> list[str]:
        for entry in value:
            try:
                ip_network(entry, strict=False)
            except ValueError:
                if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", entry) or re.fullmatch(r"[0-9.]+", entry):
                    raise ValueError(f"{entry!r} is neither a host name nor an address nor a network") from None
        return value


class WebhookSettings(Section):
    """How webhooks are sent."""

    schedule_seconds: list[Annotated[float, Field(ge=0, le=604_800)]] = Field(
        default=[5, 60, 300, 1800, 7200, 18_000, 36_000, 64_800, 86_400],
        max_length=100,
        description="The wait after each failed attempt, 10 percent more or less; about 60 hours by default.",
    )
    timeout_seconds: float = Field(default=15, gt=0, le=120, description="For a whole attempt.")
    connect_timeout_seconds: float = Field(default=5, gt=0, le=60, description="For name, connection and TLS.")
    concurrency: int = Field(default=500, ge=1, le=10_000, description="Attempts at once, in one worker-engine.")
    host_concurrency: int = Field(default=8, ge=1, le=1000, description="Of them, to one receiver.")
    breaker_failures: int = Field(
        default=5,
        ge=1,
        description="After so many attempts without any answer, one after the other, a receiver is left alone.",
    )
    breaker_seconds: float = Field(default=30, gt=0, description="For so long; it doubles, up to ten times that.")
    late_after_seconds: float = Field(
        default=60, ge=1, description="A webhook that is due for so long is woken again, in case its wake-up was lost."
    )
    secret_overlap_hours: float = Field(
        default=24, ge=0, le=720, description="How long the old secret signs, too, after a rotation."
    )
    ca_file: Path | None = Field(
        default=None, description="PEM: authorities of private receivers, beside the public ones."
    )


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
    max_rss_mb: int = Field(
        default=1024,
        ge=256,
        le=4096,
        description="Memory, in MiB, of the engine itself (over it: no new jobs, and a restart when it is idle), and "
        "of each job's processes together (over it: they are killed).",
    )
    stall_timeout_seconds: float = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How long a job's process may show no sign of life, neither a pulse nor CPU time; 0: for ever.",
    )
    redis_patience_seconds: float = Field(
        default=60, ge=1, le=86_400, description="How long Redis may be away before a worker gives up, with status 1."
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
    encryption_keys: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")], SealingKey] = Field(
        min_length=1, description="Key id to 32 bytes as base64. The first seals, all open."
    )
    seal_results: bool = Field(default=False, description="Whether result files are sealed under these keys, too.")
    roles: list[Literal["jobs", "webhooks", "housekeeping"]] = Field(
        default=["jobs", "webhooks", "housekeeping"], min_length=1, description="What a worker-engine does."
    )
    webhooks: WebhookSettings = WebhookSettings()
    callbacks: CallbackSettings = CallbackSettings()
    jwt: JwtSettings
    tls: TlsSettings = TlsSettings()
    api: ApiSettings = ApiSettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    log: LogSettings = LogSettings()
    cors_origins: list[str] = Field(
        default_factory=list, description="Pages of these origins may call from a browser: `https://app.example.com`."
    )

    @field_validator("cors_origins")
    @classmethod
    def _plain_origins(cls, values: list[str]) -> list[str]:
        for value in values:
            parts = urlsplit(value)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or value != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{value!r} is no origin, such as https://app.example.com")
        return values

    @field_validator("public_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @field_validator("redis_url", "amqp_url")
    @classmethod
    def _certificates_are_checked(cls, value: SecretStr) -> SecretStr:
        query = parse_qsl(urlsplit(value.get_secret_value()).query, keep_blank_values=True)
        if any("ssl" in name or name in ("cafile", "capath", "cadata", "certfile", "keyfile") for name, _ in query):
            raise ValueError("certificates are always checked, and with what stands in `tls`, not in the URL")
        return value

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
    secret_files = [path] if path and _holds_a_secret(values) else []
    for name, text in sorted(environment.items()):
        if name.startswith(PREFIX) and name not in CLIENT_VARIABLES:
            _overlay(values, name, text)
            if name.lower().endswith(FILE_SUFFIX):
                secret_files.append(Path(text))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentences(error))) from None  # the cause would show the values
    if wrong := [*_unsafe_places(settings), *([] if settings.development else _unsafe_secrets(settings, secret_files))]:
        raise ConfigurationError("; ".join(wrong))
    return settings


def _unsafe_places(settings: Settings) -> Iterable[str]:
    """Whoever answers in the place of a key set decides who everybody is: it is asked over https, or not by network."""
    url = urlsplit(settings.jwt.jwks_url or "")
    if url.scheme == "http" and not (settings.development and url.hostname in LOOPBACK):
        yield "jwt.jwks_url: http:// is for loopback, in development mode; use https://"


def _unsafe_secrets(settings: Settings, files: Iterable[Path]) -> Iterable[str]:
    """Name the secrets that are none: out of an example file, not random, or for every user of the machine to read."""
    secrets: dict[str, SecretStr | SecretBytes | None] = {
        "redis_url": settings.redis_url,
        "amqp_url": settings.amqp_url,
        "archive_url": settings.archive_url,
        "jwt.secret": settings.jwt.secret,
        **{f"encryption_keys.{key_id}": key for key_id, key in settings.encryption_keys.items()},
    }
    for key, secret in secrets.items():
        value = secret.get_secret_value() if secret else ""
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if EXAMPLE.search(text):
            yield f"{key}: the example's secret, which everybody knows; make one (openssl rand -base64 32)"
        elif text and not key.endswith("_url") and len(set(text)) < FEWEST_CHARACTERS:
            yield f"{key}: not random; make one (openssl rand -base64 32)"
    for file in files:
        if _is_open_to_everybody(file):
            yield f"{file}: every user of this machine may read it, and it holds a secret (chmod 0640 or less)"


def _holds_a_secret(values: Mapping[str, Any]) -> bool:
    jwt = values.get("jwt")
    urls = (str(values.get(name, "")) for name in ("redis_url", "amqp_url", "archive_url"))
    return (
        "encryption_keys" in values
        or (isinstance(jwt, dict) and "secret" in jwt)
        or any(re.search(r"://[^/]*:[^/]*@", url) for url in urls)
    )


def _is_open_to_everybody(file: Path) -> bool:
    """Whether any user can read it: its own mode allows that, and so does each directory on the way."""
    real = file.resolve()
    try:
        may_pass = all(directory.stat().st_mode & stat.S_IXOTH for directory in real.parents)
        return may_pass and bool(real.stat().st_mode & stat.S_IROTH)
    except OSError:  # not for us to see, so not for everybody
        return False


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
    if name.lower().endswith(FILE_SUFFIX):
        key = key.removesuffix(FILE_SUFFIX)
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
