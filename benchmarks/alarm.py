"""How soon a submission is refused once RabbitMQ has raised its memory alarm, from the first one on.

    python benchmarks/alarm.py [seconds] [submissions a second]

It starts a Redis, a RabbitMQ and an API of its own, submits at a steady pace, raises the alarm, and prints the latency
of every answer that was 503. The target is 100 ms at the 99th percentile.
"""

import asyncio
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.staging import servers
from stack.servers import RabbitServer
from tests.support.service import running_service


async def measure(seconds: float, rate: float) -> None:
    """Print the latencies."""
    with servers() as (directory, redis, rabbit):
        async with (
            running_service(redis, rabbit, directory / "service", workers=0) as service,
            service.client() as client,
        ):
            await submit_all(client, rabbit, seconds, rate)


async def submit_all(client: httpx.AsyncClient, rabbit: RabbitServer, seconds: float, rate: float) -> None:
    """Submit for so long before the alarm, and for so long in it."""
    answers: list[tuple[float, int, float]] = []

    async def submit() -> None:
        began = time.perf_counter()
        answer = await client.post("/v1/workload", json={"action": "noop", "id": 1})
        answers.append((began, answer.status_code, time.perf_counter() - began))

    enough = asyncio.Event()

    async def at_a_steady_pace() -> None:
        async with asyncio.TaskGroup() as group:
            while not enough.is_set():
                group.create_task(submit())
                await asyncio.sleep(1 / rate)

    pace = asyncio.create_task(at_a_steady_pace())
    await asyncio.sleep(seconds)
    await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1")
    await asyncio.sleep(seconds)
    enough.set()
    await pace
    accepted = sorted(took for _, status, took in answers if status == 202)
    refused = [(began, took) for began, status, took in sorted(answers) if status == 503]
    others = {status for _, status, _ in answers} - {202, 503}
    times = sorted(took for _, took in refused)
    print(f"accepted before the alarm: {len(accepted)}, median {median(accepted) * 1000:.1f} ms")
    print(f"refused in it: {len(refused)}; the first ones: {[round(took * 1000) for _, took in refused[:10]]} ms")
    print(
        f"  median {median(times) * 1000:.1f} ms, p99 {quantiles(times, n=100)[98] * 1000:.1f} ms, "
        f"longest {times[-1] * 1000:.1f} ms; other answers: {others or 'none'}"
    )


if __name__ == "__main__":
    arguments = [float(argument) for argument in sys.argv[1:]] + [10.0, 50.0][len(sys.argv) - 1 :]
    asyncio.run(measure(*arguments[:2]))
