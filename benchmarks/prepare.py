"""Make Longhaul ready for the peers' harness (`own.toml`): its users, configurations, topology and tables, and a token.

    python benchmarks/prepare.py PORT            before the API starts; prints TOKEN=…
    python benchmarks/prepare.py PORT --reset    between measures: nothing queued, nothing stored

REDIS_URL and AMQP_URL name the harness's servers. The configurations in `.run/bench-PORT` are the example for
production, in which only addresses, paths, secrets and sizes of limits are other ones. The peers share the harness's
Redis, which writes to disk each second; Longhaul promises more, so while its API runs Redis writes before it answers.
"""

import argparse
import asyncio
import base64
import hashlib
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.parse import urlsplit

import aio_pika
import yaml
from redis import Redis

ROOT: Final = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "deploy" / "local")]

from app.cli.admin import declare  # noqa: E402
from app.security.tokens import mint_access_token  # noqa: E402
from app.settings import load_settings  # noqa: E402
from stack.files import write_private  # noqa: E402
from stack.servers import COMPACT_BYTES  # noqa: E402

EXAMPLE: Final = ROOT / "deploy" / "config.example.yaml"
USERS: Final = ROOT / "deploy" / "redis" / "users.acl"
QUEUE: Final = "bench"
PREFETCH: Final = 1000
CONCURRENCY: Final = 400
PLENTY: Final = 50_000_000


def configuration(redis_url: str, amqp_url: str, directory: Path, port: int) -> dict[str, Any]:
    """Return the example for production with these addresses, secrets of its own, and limits that nothing reaches."""
    values: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    values |= {
        "redis_url": redis_url,
        "amqp_url": amqp_url,
        "public_url": f"http://127.0.0.1:{port}",
        "actions": ["benchmarks.work.actions"],
        "handlers": ["benchmarks.work.handlers"],
        "queues": {QUEUE: {"prefetch": PREFETCH, "concurrency": CONCURRENCY, "depth_limit": PLENTY}},
        "archive_url": f"sqlite:///{directory}/archive.db",
        "results_url": f"file://{directory}/results",
        "encryption_keys": {"bench": base64.b64encode(secrets.token_bytes(32)).decode()},
    }
    values["jwt"] |= {"secret": secrets.token_urlsafe(32)}
    values["api"] |= {"host": "127.0.0.1", "port": port}
    values["rate_limits"] |= {"submissions": PLENTY, "active_tasks": PLENTY}
    return values


def prepare(port: int) -> None:
    """Make everything that stands before the start, and print what the harness wants to know."""
    directory = ROOT / ".run" / f"bench-{port}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    urls = _redis_users(os.environ["REDIS_URL"])
    values = configuration(urls["worker"], os.environ["AMQP_URL"], directory, port)
    for user in ("api", "worker"):
        write_private(directory / f"{user}.yaml", yaml.safe_dump(values | {"redis_url": urls[user]}))
    declare(directory / "worker.yaml")
    jwt = load_settings(directory / "api.yaml").jwt
    assert jwt.secret is not None
    token = mint_access_token(
        secret=jwt.secret.get_secret_value(),
        issuer=jwt.issuer,
        audience=jwt.audience,
        subject="bench",
        scopes=None,
        ttl_seconds=86_400,
    )
    print(f"TOKEN={token}")


def reset(port: int) -> None:
    """Empty the queue and Redis. When the API has stopped, the peers' turn comes: Redis is as they had it."""
    asyncio.run(_purge(os.environ["AMQP_URL"]))
    with Redis.from_url(os.environ["REDIS_URL"]) as operator:
        operator.flushall()
        if not _listens(port):
            operator.config_set("appendfsync", "everysec")
            operator.config_set("hash-max-ziplist-value", 64)


def _redis_users(url: str) -> dict[str, str]:
    """Make the users of `deploy/redis`, and set up Redis as that says; return the URL of each user."""
    passwords = {user: secrets.token_urlsafe(24) for user in ("operator", "api", "worker")}
    hashes = {user: hashlib.sha256(text.encode()).hexdigest() for user, text in passwords.items()}
    with Redis.from_url(url) as operator:
        operator.config_set("appendfsync", "always")
        operator.config_set("hash-max-ziplist-value", COMPACT_BYTES)
        for line in Template(USERS.read_text()).substitute(hashes).splitlines():
            _, user, *rules = line.split()
            if user != "default":  # the harness's own
                operator.execute_command("ACL", "SETUSER", user, "reset", *rules)
    place = urlsplit(url)
    return {user: f"redis://{user}:{text}@{place.hostname}:{place.port}/0" for user, text in passwords.items()}


async def _purge(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await (await channel.get_queue(QUEUE)).purge()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--reset", action="store_true")
    asked = parser.parse_args()
    (reset if asked.reset else prepare)(asked.port)


if __name__ == "__main__":
    main()
