"""Fair under attack: one caller floods at ten times its limit while another works. How much does the other feel?

    python benchmarks/fairness.py [--rounds 3] [--seconds 30] [--limit 600] [--factor 10]

Starts a Redis, a RabbitMQ, an API and a worker of its own on loopback. A round is first quiet (the worker-bee alone, at
its pace), then the same under the flood; the figure is the p95 of its submissions in the second part over that of the
first, and of three rounds the median counts: 2.0 at most is the aim. Exit status 1 when it is missed, or when the flood
got more than its bucket.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.staging import servers
from tests.support.service import Service, running_service

AIM = 2.0
PACE_SECONDS = 0.1
WINDOW_SECONDS = 60
FLOODERS = 8
BODY = {"action": "noop", "id": 1}


@contextlib.asynccontextmanager
async def started(limit: int) -> AsyncIterator[Service]:
    """A service whose every caller may submit `limit` tasks a minute."""
    limits = {"submissions": limit, "window_seconds": WINDOW_SECONDS, "active_tasks": 10_000}
    with servers() as (directory, redis, rabbit):
        async with running_service(redis, rabbit, directory / "service", rate_limits=limits) as service:
            yield service


async def work(client: httpx.AsyncClient, seconds: float) -> list[float]:
    """Submit a task each tenth of a second; return how long each took, in ms."""
    took, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        answer = await client.post("/v1/workload", json=BODY)
        answer.raise_for_status()
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(max(0.0, PACE_SECONDS - (time.perf_counter() - began)))
    return took


async def flood(client: httpx.AsyncClient, seconds: float, per_second: float) -> Counter[int]:
    """Submit at this pace, whatever is answered; return how often which status came."""
    answers: Counter[int] = Counter()
    began, sent = time.perf_counter(), 0

    async def one_of_many() -> None:
        nonlocal sent
        while (now := time.perf_counter() - began) < seconds:
            if sent >= now * per_second:
                await asyncio.sleep(0.005)
                continue
            sent += 1
            answers[(await client.post("/v1/workload", json=BODY)).status_code] += 1

    await asyncio.gather(*(one_of_many() for _ in range(FLOODERS)))
    return answers


def p95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


async def main() -> int:
    """Run the rounds; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--limit", type=int, default=600, help="submissions a minute of each caller")
    parser.add_argument("--factor", type=float, default=10, help="how far the flood is above that")
    asked = parser.parse_args()
    per_second = asked.limit * asked.factor / WINDOW_SECONDS
    ratios, honest = [], True
    async with started(asked.limit) as service:
        async with service.client("warm-up") as client:
            await work(client, 3)
        for number in range(asked.rounds):
            # Callers that no other round knows: each begins with a full bucket.
            async with service.client(f"bee-{number}") as bee, service.client(f"bee-{number}-2") as again:
                quiet = await work(bee, asked.seconds)
                async with service.client(f"flood-{number}") as attacker:
                    took, answers = await asyncio.gather(
                        work(again, asked.seconds), flood(attacker, asked.seconds, per_second)
                    )
            most = asked.limit * (1 + asked.seconds / WINDOW_SECONDS) * 1.01
            honest = honest and answers[202] <= most
            ratios.append(p95(took) / p95(quiet))
            print(
                f"round {number + 1}: p95 {p95(quiet):.1f} ms quiet, {p95(took):.1f} ms under the flood "
                f"({ratios[-1]:.2f} x); the flood: {dict(sorted(answers.items()))}, at most {most:.0f} may pass"
            )
    median = statistics.median(ratios)
    print(f"median {median:.2f} x, aim {AIM} x")
    return 0 if median <= AIM and honest else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
