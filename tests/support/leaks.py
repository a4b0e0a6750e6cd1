"""What no log may hold, and no command line: every service and server of a test session is held to it when it ends."""

import re
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from app.settings import Settings

JWT: Final = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
"""Any token at all, access token or task token, whoever made it."""


def secrets_of(settings: Settings, *urls: str) -> set[str]:
    """Return all that is secret in a configuration, and the passwords of further URLs."""
    known = [settings.redis_url, settings.amqp_url, settings.archive_url]
    passwords = (urlsplit(url).password for url in [*(url.get_secret_value() for url in known), *urls])
    secret = settings.jwt.secret.get_secret_value() if settings.jwt.secret else None
    keys = [key.get_secret_value() for key in settings.encryption_keys.values()]
    forms = {form for key in keys for form in (key.hex(), repr(key)[2:-1], b64encode(key).decode().rstrip("="))}
    return {one for one in (*passwords, secret, *forms) if one}


def leaks(logs: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """Return each line of a log that holds one of these, or a token: its file and number, not the line."""
    wanted = [secret.encode() for secret in secrets]
    found = []
    for log in logs:
        for number, line in enumerate(log.read_bytes().splitlines(), 1):
            if JWT.search(line) or any(secret in line for secret in wanted):
                found.append(f"{log}:{number}")
    return found


def told_by_arguments(pids: Iterable[int], secrets: Iterable[str]) -> list[int]:
    """Return the processes whose command line, which everybody on the machine may read, holds one of these."""
    found = []
    for pid in pids:
        try:
            arguments = "\0".join(psutil.Process(pid).cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if JWT.search(arguments.encode()) or any(secret in arguments for secret in secrets):
            found.append(pid)
    return found
