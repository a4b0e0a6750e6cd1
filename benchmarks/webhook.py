"""How soon a webhook comes: from a task's end, as its document says, to the first attempt at its receiver.

    python benchmarks/webhook.py [--seconds 30] [--rate 5]

Starts a Redis, a RabbitMQ, an API, a worker and a receiver of its own on loopback, and submits at a steady pace. The
promise is 500 ms at the 95th percentile, the aim 100 ms. Exit status 1 when the promise is missed, or when a webhook
came more than once; one that does not come within a minute is an error.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.staging import servers
from tests.support.receivers import Received, Receiver, receiver
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

PROMISE_MS = 500.0
AIM_MS = 100.0
WARM_UP = 20


async def submit_all(client: httpx.AsyncClient, url: str, *, count: int, rate: float) -> None:
    """Submit so many at this pace, whatever the answers take."""
    order = {"action": "noop", "id": 1, "callback_url": url}

    async def submit() -> None:
        (await client.post("/v1/workload", json=order)).raise_for_status()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            group.create_task(submit())


async def all_arrived(hook: Receiver, count: int) -> None:
    """Wait until so many events have come."""

    async def there() -> bool:
        return len({one.headers["webhook-id"] for one in hook.received}) >= count

    await wait_until(there, timeout=60, what=f"{count} webhooks")


def lateness_ms(one: Received) -> float:
    """Return how long after the end this attempt came, in ms."""
    ended = datetime.fromisoformat(json.loads(one.body)["data"]["finished_at"])
    return (one.at - ended.timestamp()) * 1000


async def measure(service: Service, *, seconds: float, rate: float) -> bool:
    """Print the figures; return whether the promise was kept."""
    count = round(seconds * rate)
    async with service.client() as client, receiver() as hook:
        await submit_all(client, hook.url, count=WARM_UP, rate=rate)
        await all_arrived(hook, WARM_UP)
        hook.received.clear()
        await submit_all(client, hook.url, count=count, rate=rate)
        await all_arrived(hook, count)
        times = Counter(one.headers["webhook-id"] for one in hook.received)
        first = {one.headers["webhook-id"]: one for one in reversed(hook.received)}
    late = sorted(lateness_ms(one) for one in first.values())
    cuts = statistics.quantiles(late, n=100)
    repeated = sum(number > 1 for number in times.values())
    print(
        f"{count} tasks, {rate:g} a second: end to first attempt median {cuts[49]:.0f} ms, p95 {cuts[94]:.0f} ms, "
        f"p99 {cuts[98]:.0f} ms, longest {late[-1]:.0f} ms; came more than once: {repeated}"
    )
    reached = "reached" if cuts[94] <= AIM_MS else "not reached"
    print(f"at p95: promise {PROMISE_MS:.0f} ms, aim {AIM_MS:.0f} ms ({reached})")
    return cuts[94] <= PROMISE_MS and not repeated


async def main() -> int:
    """Start everything and measure; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=5, help="submissions a second")
    asked = parser.parse_args()
    with servers() as (directory, redis, rabbit):
        async with running_service(redis, rabbit, directory / "service") as service:
            kept = await measure(service, seconds=asked.seconds, rate=asked.rate)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
