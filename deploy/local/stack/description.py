"""`stack.json`: what a running stack tells everybody else (DESIGN A1)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from stack.files import write_private

NAME = "stack.json"


@dataclass(frozen=True, slots=True)
class Tokens:
    """An access token for each of the three callers that a stack knows."""

    alice: str
    bob: str
    admin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """All but the pids, which change. What is not built yet is None."""

    base_url: str
    api_urls: list[str]
    nginx_url: str
    nginx_tls_url: str | None = None
    dashboard_url: str | None = None
    grpc_target: str | None = None
    metrics_url: str | None = None
    redis_url: str
    amqp_url: str
    tokens: Tokens
    webhook_secrets: Mapping[str, str] | None = None
    config: str

    def write(self, run_directory: Path, pids: Mapping[str, int | list[int]]) -> None:
        """Write it, whole or not at all, mode 0600: there are passwords and tokens in it."""
        write_private(run_directory / NAME, json.dumps({**asdict(self), "pids": pids}, indent=2) + "\n")

    @classmethod
    def read(cls, run_directory: Path) -> Self | None:
        """Return what a stack has written; None when it is not ready."""
        try:
            text = (run_directory / NAME).read_text()
        except FileNotFoundError:
            return None
        fields = json.loads(text)
        del fields["pids"]
        return cls(**fields | {"tokens": Tokens(**fields["tokens"])})

    @staticmethod
    def remove(run_directory: Path) -> None:
        """Take it away: the stack is no longer to be used."""
        (run_directory / NAME).unlink(missing_ok=True)
