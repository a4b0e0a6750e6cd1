"""Run: one run from its start to its verdict: load and faults, healing, calm, the end of everything, the dump."""

import asyncio
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aio_pika
from redis.exceptions import RedisError

from tests.chaos.dump import dump
from tests.chaos.journal import Journal, now
from tests.chaos.load import Load
from tests.chaos.nemesis import ALL, KINDS, Nemesis
from tests.chaos.schedule import Fault, Kind, Step, schedule
from tests.chaos.stage import LEASE_SECONDS, MAX_ATTEMPTS, ROOT, Stage, stage
from tests.support.waiting import wait_until

FAULTS_OF_EACH_KIND: Final = 10
IN_FLIGHT: Final = 20
WARMING_SECONDS: Final = 3.0
CALM_JOBS: Final = 8
CALM_SECONDS: Final = 40.0
"""How long the jobs of the calm take that are not cancelled before, since copies have converged."""
WINDOW, ENOUGH = 6, 4
"""Of so many looks in a row so many must see no more messages than tasks; a copy and its message may overlap."""
WHOLE_SECONDS: Final = 240.0
UNSEEN: Final = 2
"""Callers learn late of ends: of the tasks that they take to be in flight, about half have ended already."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is to be."""

    directory: Path
    seed: int
    seconds: float
    """How long faults come."""
    rate: float = 9.0
    """Submissions a second."""
    kinds: tuple[Kind, ...] = ALL
    doubles: float = 0.2
    is_long: bool = False
    """Whether it is held to the least numbers of faults and of tasks in flight, and void with fewer."""
    calm: bool = True
    """Whether it ends with a time in which nothing is broken, and copies must converge."""
    drain_seconds: float = 60.0
    """How long, after all is healed, tasks may take to end."""


async def run(wanted: Wanted) -> None:
    """Let it happen, and leave the evidence in the directory."""
    began = now()
    async with stage(wanted.directory) as built:
        print(f"the service runs after {now() - began:.0f} s; journals in {wanted.directory}", flush=True)
        clients, faults = Journal(wanted.directory / "clients.jsonl"), Journal(wanted.directory / "faults.jsonl")
        load = Load(built, clients, seed=wanted.seed, rate=wanted.rate)
        nemesis = Nemesis(built, faults, in_flight=lambda: load.promised)
        times: dict[str, Any] = {"began": now()}
        async with load.open():
            await _under_faults(wanted, load, nemesis)
            times["healed"] = now()
            await _whole(built)
            if wanted.calm:
                await _calm(built, load)
            times["drained"] = await _drained(built, wanted.drain_seconds)
            await load.finish(20)
            await asyncio.gather(*(_read_all(load, subject) for subject in ("alice", "bob")))
        times["ended"] = now()
        await dump(built)
        clients.close()
        faults.close()
        (wanted.directory / "calm.jsonl").touch()
        _describe(wanted, built, times)
        print(f"{load.accepted} tasks accepted", flush=True)


async def _under_faults(wanted: Wanted, load: Load, nemesis: Nemesis) -> None:
    stopping = asyncio.Event()
    submitting = asyncio.create_task(load.submit_until(stopping), name="submitting")
    await asyncio.sleep(WARMING_SECONDS)
    until = now() + wanted.seconds
    for step in schedule(wanted.seed, wanted.kinds, doubles=wanted.doubles):
        await nemesis.carry_out(step, enough=UNSEEN * IN_FLIGHT if wanted.is_long else IN_FLIGHT)
        if submitting.done():
            break
        if now() > until and (not wanted.is_long or _is_enough(nemesis, wanted) or now() > until + wanted.seconds / 2):
            break
    stopping.set()
    await submitting


def _is_enough(nemesis: Nemesis, wanted: Wanted) -> bool:
    """Whether each kind has come oftener than a long run asks for: the checker may count a task less in flight."""
    return all(nemesis.met[kind.name] > FAULTS_OF_EACH_KIND for kind in wanted.kinds)


async def _whole(stage: Stage) -> None:
    """Wait until every process is back and every queue consumed."""
    await wait_until(stage.is_serving, timeout=WHOLE_SECONDS, what="the service's healing")
    print("healed", flush=True)


async def _calm(stage: Stage, load: Load) -> None:
    """Let nothing but a few long jobs run, with many copies of their messages: these must converge to one each."""
    samples = Journal(stage.directory / "calm.jsonl")
    load.submit_calm(CALM_JOBS, CALM_SECONDS)
    await asyncio.sleep(LEASE_SECONDS + 1)  # they have handed over by now: each has a copy in a delay queue
    copying = Nemesis(stage, samples, in_flight=dict)
    one = Fault(KINDS["duplicate"][0], 0, chance=1)
    await copying.carry_out(Step(0, (one,), 0, 0), enough=0)
    until, fits = now() + CALM_SECONDS - 2 * LEASE_SECONDS, [False]
    while now() < until and sum(fits[-WINDOW:]) < ENOUGH:
        living, waiting = await stage.living(), sum((await stage.waiting()).values())
        samples.write(at=now(), living=living, messages=waiting)
        fits.append(waiting <= living)
        await asyncio.sleep(0.25)
    samples.close()
    await load.cancel_calm()


async def _drained(stage: Stage, within: float) -> float | None:
    """Wait until nothing lives and no message waits; when that was, or None."""
    until, empty = now() + within, 0
    while now() < until:
        try:
            is_empty = not await stage.living() and not any((await stage.waiting()).values())
        except (RedisError, aio_pika.exceptions.AMQPError, OSError, TimeoutError):
            is_empty = False
        empty = empty + 1 if is_empty else 0
        if empty >= 5:
            return now()
        await asyncio.sleep(0.4)
    print(f"not drained after {within:.0f} s", flush=True)
    return None


async def _read_all(load: Load, subject: str) -> None:
    """Read the whole of a caller's list once more, as the last word about each of its tasks."""
    for _ in itertools.repeat(None, 5):
        if await load.read_list(subject, pages=1000, op="last"):
            return
        await asyncio.sleep(1)


def _describe(wanted: Wanted, stage: Stage, times: dict[str, Any]) -> None:
    settings = stage.settings
    secrets = [
        settings.jwt.secret.get_secret_value() if settings.jwt.secret else "",
        stage.redis_server.service_url.rpartition("@")[0].rpartition(":")[2],
        stage.rabbit_server.service_url.rpartition("@")[0].rpartition(":")[2],
        stage.postgres_server.url.rpartition("@")[0].rpartition(":")[2],
    ]
    least = {"of_each_kind": FAULTS_OF_EACH_KIND, "in_flight": IN_FLIGHT} if wanted.is_long else None
    facts = {
        "seed": wanted.seed,
        "lease_seconds": LEASE_SECONDS,
        "max_attempts": MAX_ATTEMPTS,
        "kinds": [kind.name for kind in wanted.kinds],
        "least": least,
        "secrets": [secret for secret in secrets if secret],
        **times,
    }
    (wanted.directory / "run.json").write_text(json.dumps(facts, indent=1))


def judge(directory: Path) -> int:
    """Have the checker, a program that knows nothing of ours, read the evidence; its exit status."""
    return subprocess.run([sys.executable, "-m", "tests.checker", str(directory)], cwd=ROOT, check=False).returncode
