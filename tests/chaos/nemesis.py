"""Nemesis: breaks the stage as the schedule says, heals it, and writes down what it did and when.

Each kind of fault is a small function that returns when it is healed. What it could not break (there was no such
process, a server was away already) it raises as NothingBroken, and that fault does not count.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aio_pika
import psutil
from redis.exceptions import RedisError

from app.broker.topology import DELAY_LEVELS, delay_name
from stack.errors import StackError
from tests.chaos.journal import Journal, now
from tests.chaos.proxy import Proxy, Way
from tests.chaos.schedule import Fault, Kind, Step
from tests.chaos.stage import APIS, LEASE_SECONDS, PUBLISH_SECONDS, QUEUES, SERVERS, WORKERS, Member, Stage

REBUILT_SECONDS: Final = 60.0
ENOUGH_SECONDS: Final = 10.0
Facts = dict[str, Any]
Breaking = Callable[[Stage, Fault, random.Random], Awaitable[Facts]]

KINDS: Final[dict[str, tuple[Kind, Breaking]]] = {}


class NothingBroken(Exception):
    """There was nothing to break."""


def fault(
    name: str,
    *touches: str,
    empties: str = "",
    sets_back: bool = False,
    seconds: tuple[float, float] = (0, 0),
) -> Callable[[Breaking], Breaking]:
    """Register a function as a kind of fault."""

    def register(function: Breaking) -> Breaking:
        KINDS[name] = (Kind(name, frozenset(touches), empties, sets_back, seconds), function)
        return function

    return register


class Nemesis:
    """Carries out steps."""

    def __init__(self, stage: Stage, journal: Journal, *, in_flight: Callable[[], dict[str, float]]) -> None:
        """Take the stage.

        Args:
            stage: What is broken.
            journal: Where faults are written down.
            in_flight: The promised tasks whose end nobody has seen, and when each was asked for.
        """
        self._stage = stage
        self._journal = journal
        self._in_flight = in_flight
        self._lost_by_redis: set[str] = set()
        self._set_back: dict[str, float] = {}
        """Tasks of which Redis came back with an older state, and when. The message that such a task has by now may be
        dropped, since that state names an earlier one: it is whole again once it has been given another."""
        self.met: Counter[str] = Counter()
        """How often each kind has met as many tasks in flight as were asked for."""

    async def carry_out(self, step: Step, *, enough: int) -> None:
        """Break, and heal.

        Args:
            step: What is to be broken.
            enough: How many tasks are to be in flight; it is waited for, but not for ever.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENOUGH_SECONDS):
                while len(self._in_flight()) < enough:
                    await asyncio.sleep(0.1)
        if step.empties:
            await self._until_rebuilt()
        async with asyncio.TaskGroup() as together:
            for number, one in enumerate(step.faults):
                together.create_task(self._break(step, one, after=number * step.apart, enough=enough))
        await asyncio.sleep(step.pause)

    async def _break(self, step: Step, one: Fault, *, after: float, enough: int) -> None:
        await asyncio.sleep(after)
        promised = set(self._in_flight())
        began, failure = now(), ""
        facts: Facts = {}
        try:
            facts = await KINDS[one.kind.name][1](self._stage, one, one.random)
        except (NothingBroken, StackError, RedisError, aio_pika.exceptions.AMQPError, OSError, psutil.Error) as error:
            failure = f"{type(error).__name__} {error}".strip()
        if one.kind.sets_back:
            self._set_back |= dict.fromkeys(promised | set(self._in_flight()), now())
        if not failure and len(promised) >= enough:
            self.met[one.kind.name] += 1
        if one.kind.empties == "redis":
            self._lost_by_redis |= promised | set(self._in_flight())  # it may have been emptied late in the fault
        self._journal.write(
            step=step.number,
            kind=one.kind.name,
            empties=one.kind.empties,
            alone=len(step.faults) == 1,
            began=began,
            ended=now(),
            failure=failure,
            **facts,
        )
        said = " ".join(f"{name}={value}" for name, value in facts.items())
        took = f"{now() - began:4.1f} s"
        print(f"{step.number:4} {one.kind.name:22} {took}  {len(promised):3} in flight  {failure or said}", flush=True)

    async def _until_rebuilt(self) -> None:
        """Wait until what was emptied is rebuilt: both stores emptied is what is not promised."""
        until = now() + REBUILT_SECONDS  # looked at by hand: aio-pika may swallow the cancellation of a timeout
        while now() < until:
            if await self._is_rebuilt():
                return
            await asyncio.sleep(0.3)
        waiting = ", ".join(sorted(self._lost_by_redis | self._set_back.keys())) or "RabbitMQ"
        print(f"     not rebuilt yet, and the next emptying comes all the same: {waiting}", flush=True)

    async def _is_rebuilt(self) -> bool:
        stage = self._stage
        if not await stage.is_marked():
            return False
        promised = self._in_flight()
        seen = {one: promised[one] for one in self._lost_by_redis | self._set_back.keys() if one in promised}
        living = seen.keys() - await stage.ended_since(seen)
        self._lost_by_redis = await stage.unknown(self._lost_by_redis & living)
        waiting = await stage.not_published_since({one: self._set_back[one] for one in self._set_back.keys() & living})
        self._set_back = {one: self._set_back[one] for one in waiting}
        return not self._lost_by_redis and not self._set_back


# --- processes


def _members(stage: Stage, names: tuple[str, ...]) -> list[Member]:
    found = [stage.members[name] for name in names if stage.members[name].pid]
    if not found:
        raise NothingBroken("none runs")
    return found


def _signal(pid: int | None, number: signal.Signals) -> int:
    if pid is None:
        raise NothingBroken("it does not run")
    try:
        os.kill(pid, number)
    except ProcessLookupError as error:
        raise NothingBroken("it has gone") from error
    return pid


async def _freeze(pids: list[int], seconds: float) -> None:
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@fault("kill-api", "api")
async def kill_api(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL one API."""
    member = chance.choice(_members(stage, APIS))
    return {"who": member.name, "pid": _signal(member.pid, signal.SIGKILL)}


@fault("kill-worker", "worker", "child")
async def kill_worker(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL one worker."""
    member = chance.choice(_members(stage, WORKERS))
    return {"who": member.name, "pid": _signal(member.pid, signal.SIGKILL)}


@fault("end-worker", "worker", "child")
async def end_worker(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGTERM one worker, as a deployment does."""
    member = chance.choice(_members(stage, WORKERS))
    pid = _signal(member.pid, signal.SIGTERM)
    while member.pid == pid:
        await asyncio.sleep(0.1)
    return {"who": member.name, "pid": pid}


@fault("kill-child", "child")
async def kill_child(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL the process of one blocking job."""
    task_id, pid = await _child(stage, chance)
    _signal(pid, signal.SIGKILL)
    return {"task_id": task_id, "pid": pid}


async def _child(stage: Stage, chance: random.Random) -> tuple[str, int]:
    for _ in range(50):
        children = stage.children()
        if children:
            return chance.choice(children)
        await asyncio.sleep(0.1)
    raise NothingBroken("no blocking job runs")


@fault("out-of-memory", "child")
async def out_of_memory(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Let some blocking jobs run out of memory: see `workshop.starve`."""
    hungry = stage.directory / "hungry"
    turns = [hungry / f"{fault.chance}-{number}" for number in range(chance.randint(1, 3))]
    for turn in turns:
        turn.touch()
    for _ in range(60):
        if not any(turn.exists() for turn in turns):
            break
        await asyncio.sleep(0.1)
    left = [turn for turn in turns if turn.exists()]
    for turn in left:
        turn.unlink(missing_ok=True)
    if len(left) == len(turns):
        raise NothingBroken("no blocking job has taken a step")
    return {"jobs": len(turns) - len(left)}


@fault("stop-api", "api", seconds=(1, 5))
async def stop_api(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGSTOP one API for a while."""
    member = chance.choice(_members(stage, APIS))
    await _freeze([member.pid or 0], fault.seconds)
    return {"who": member.name, "seconds": round(fault.seconds, 1)}


@fault("stop-worker", "worker", "child", seconds=(1, 2.5 * LEASE_SECONDS))
async def stop_worker(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGSTOP one worker for a while; in half of the cases the broker sees its connections go, and delivers again."""
    member = chance.choice(_members(stage, WORKERS))
    pid, cuts = member.pid or 0, chance.random() < 0.5
    _signal(pid, signal.SIGSTOP)
    if cuts:
        member.ways["rabbitmq"].cut(reset=True)
    await _freeze([pid], fault.seconds)
    return {"who": member.name, "pid": pid, "seconds": round(fault.seconds, 1), "cut": cuts}


@fault("stop-child", "child", seconds=(1, 5))
async def stop_child(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGSTOP the process of one blocking job for a while."""
    task_id, pid = await _child(stage, chance)
    await _freeze([pid], fault.seconds)
    return {"task_id": task_id, "seconds": round(fault.seconds, 1)}


# --- Redis


@fault("kill-redis", "redis", seconds=(0, 2))
async def kill_redis(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL Redis, and start it on its data after a while."""
    await stage.blocking(stage.redis_server.kill)
    await asyncio.sleep(fault.seconds)
    await stage.blocking(stage.redis_server.start)
    return {}


@fault("stop-redis", "redis", seconds=(1, 1.5 * LEASE_SECONDS))
async def stop_redis(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGSTOP Redis for a while."""
    await _freeze([stage.redis_server.pid], fault.seconds)
    return {"seconds": round(fault.seconds, 1)}


@fault("empty-redis", "redis", empties="redis")
async def empty_redis(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """FLUSHALL."""
    await stage.redis.flushall()
    return {}


@fault("cut-aof-tail", "redis", empties="redis", sets_back=True)
async def cut_aof_tail(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL Redis, lose the end of its log, and start it: it is back with older data than it had."""
    await stage.blocking(stage.redis_server.kill)
    log = max((stage.redis_server.directory / "appendonlydir").glob("*.incr.aof"), key=_age)
    lost = min(chance.choice((200, 2_000, 20_000)), log.stat().st_size)
    os.truncate(log, log.stat().st_size - lost)
    await stage.blocking(stage.redis_server.start)
    return {"lost_bytes": lost}


def _age(path: Path) -> float:
    return path.stat().st_mtime


# --- RabbitMQ


@fault("kill-rabbitmq", "rabbitmq", seconds=(0, 1))
async def kill_rabbitmq(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL RabbitMQ, and start it on its data."""
    await stage.blocking(stage.rabbit_server.kill)
    await asyncio.sleep(fault.seconds)
    await stage.blocking(stage.rabbit_server.start)
    return {}


@fault("restart-rabbitmq", "rabbitmq")
async def restart_rabbitmq(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Stop RabbitMQ in order, and start it."""
    await stage.blocking(stage.rabbit_server.stop)
    await stage.blocking(stage.rabbit_server.start)
    return {}


@fault("stop-rabbitmq", "rabbitmq", seconds=(1, 5))
async def stop_rabbitmq(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGSTOP the Erlang VM for a while."""
    await _freeze([stage.rabbit_server.pid], fault.seconds)
    return {"seconds": round(fault.seconds, 1)}


@fault("empty-rabbitmq", "rabbitmq", empties="rabbitmq")
async def empty_rabbitmq(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL RabbitMQ and remove its data: topology, users and virtual host with them. It starts as a new one does."""
    await stage.blocking(stage.rabbit_server.kill)
    shutil.rmtree(stage.rabbit_server.directory / "data")
    await stage.blocking(stage.rabbit_server.start)
    return {}


@fault("alarm", "rabbitmq", seconds=(1, 4))
async def alarm(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Let RabbitMQ believe that its memory is full: it takes no messages for a while."""
    control = stage.rabbit_server.ctl
    await stage.blocking(lambda: control("set_vm_memory_high_watermark", "absolute", "1"))
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        await stage.blocking(lambda: control("set_vm_memory_high_watermark", "absolute", "2048MB"))
    return {"seconds": round(fault.seconds, 1)}


@fault("duplicate", "rabbitmq")
async def duplicate(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Deliver twice and thrice, and early, what waits in the work and delay queues."""
    copies = 0
    async with stage.channel() as channel:
        for name in [*QUEUES, *map(delay_name, DELAY_LEVELS[:3])]:
            queue = await channel.get_queue(name, ensure=True)
            taken = [message async for message in _taken(queue, 40)]
            for message in taken:
                for _ in range(chance.randint(1, 2)):
                    await channel.default_exchange.publish(message, _work_queue(message))
                    copies += 1
                await message.nack(requeue=True)
    if not copies:
        raise NothingBroken("no message waits")
    return {"copies": copies}


@fault("reorder", "rabbitmq")
async def reorder(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Shuffle what waits in the work queues and, early, in the shortest delay."""
    moved = 0
    async with stage.channel() as channel:
        for name in [*QUEUES, *map(delay_name, DELAY_LEVELS[:2])]:
            queue = await channel.get_queue(name, ensure=True)
            taken = [message async for message in _taken(queue, 60)]
            chance.shuffle(taken)
            for message in taken:
                await channel.default_exchange.publish(message, _work_queue(message))
                await message.ack()
                moved += 1
    if not moved:
        raise NothingBroken("no message waits")
    return {"moved": moved}


async def _taken(queue: aio_pika.abc.AbstractQueue, most: int) -> Any:
    for _ in range(most):
        message = await queue.get(no_ack=False, fail=False, timeout=5)
        if message is None:
            return
        yield message


def _work_queue(message: aio_pika.abc.AbstractIncomingMessage) -> str:
    return str(message.headers.get("queue") or message.routing_key)


# --- SQL


@fault("kill-sql", "sql", seconds=(0, 2))
async def kill_sql(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGKILL PostgreSQL, and start it after a while."""
    await stage.blocking(stage.postgres_server.kill)
    await asyncio.sleep(fault.seconds)
    await stage.blocking(stage.postgres_server.start)
    return {}


@fault("stop-sql", "sql", seconds=(1, 5))
async def stop_sql(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """SIGSTOP PostgreSQL for a while, each of its processes."""
    postmaster = psutil.Process(stage.postgres_server.pid)
    await _freeze([postmaster.pid, *(child.pid for child in postmaster.children())], fault.seconds)
    return {"seconds": round(fault.seconds, 1)}


@fault("sql-away", "sql", seconds=(1, 6))
async def sql_away(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """No process reaches PostgreSQL for a while."""
    with contextlib.ExitStack() as away:
        for member in stage.members.values():
            away.enter_context(member.ways["sql"].away())
        await asyncio.sleep(fault.seconds)
    return {"seconds": round(fault.seconds, 1)}


# --- connections


def _ways(stage: Stage, chance: random.Random) -> list[Proxy]:
    """One process's way to one server, all of a process's, or all to a server."""
    member = chance.choice(list(stage.members.values()))
    server = chance.choice(SERVERS)
    return chance.choice(
        [
            [member.ways[server]],
            list(member.ways.values()),
            [other.ways[server] for other in stage.members.values()],
        ]
    )


def _names(ways: list[Proxy]) -> str:
    return ways[0].name if len(ways) == 1 else f"{ways[0].name} … {ways[-1].name}"


@fault("cut", "links")
async def cut(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Cut connections, with FIN or with RST."""
    ways, reset = _ways(stage, chance), chance.random() < 0.5
    count = sum(way.cut(reset=reset) for way in ways)
    return {"ways": _names(ways), "how": "RST" if reset else "FIN", "connections": count}


@fault("lose-answers", "links", seconds=(1, 2))
async def lose_answers(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """What was asked is done, and the answer is lost, or broken off in its middle."""
    ways = _ways(stage, chance)
    before = sum(way.lost_answers for way in ways)
    for way in ways:
        way.lose_answers(chance.randint(2, 12), keep=chance.choice((0, 0, 1, 7)))
    await asyncio.sleep(fault.seconds)
    for way in ways:
        way.lose_answers(0)
    lost = sum(way.lost_answers for way in ways) - before
    if not lost:
        raise NothingBroken("nothing was asked")
    return {"ways": _names(ways), "answers": lost}


@fault("latency", "links", seconds=(2, 5))
async def latency(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Let every chunk of bytes be late."""
    ways, late = _ways(stage, chance), chance.uniform(0.02, 0.25)
    for way in ways:
        way.latency = late
    await asyncio.sleep(fault.seconds)
    for way in ways:
        way.latency = 0
    return {"ways": _names(ways), "milliseconds": round(late * 1000)}


@fault("hold", "links", seconds=(1, 5))
async def hold(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Swallow what goes in one direction; it arrives late, unless the connection was given up meanwhile."""
    ways, way = _ways(stage, chance), chance.choice(list(Way))
    for one in ways:
        one.hold(way)
    await asyncio.sleep(fault.seconds)
    for one in ways:
        one.release()
    return {"ways": _names(ways), "way": way.value, "seconds": round(fault.seconds, 1)}


# --- faults one after the other, where the order is what is to be tried


@fault("late-then-empty", "links", "redis", empties="redis")
async def late_then_empty(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Messages are late for longer than the APIs wait; Redis forgets that they were refused; then they arrive."""
    ways = [stage.members[name].ways["rabbitmq"] for name in APIS]
    for way in ways:
        way.hold(Way.UP)
    try:
        await asyncio.sleep(PUBLISH_SECONDS + chance.uniform(1, 2))
        await stage.redis.flushall()
    finally:
        for way in ways:
            way.release()
    return {}


@fault("unwritten-then-empty", "sql", "worker", "child", "redis", empties="redis")
async def unwritten_then_empty(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Ends cannot be written; the worker that wants to write them is killed; Redis forgets."""
    with contextlib.ExitStack() as away:
        for member in stage.members.values():
            away.enter_context(member.ways["sql"].away())
        await asyncio.sleep(chance.uniform(1, 2))
        worker = chance.choice(_members(stage, WORKERS))
        pid = _signal(worker.pid, signal.SIGKILL)
        await stage.redis.flushall()
    return {"who": worker.name, "pid": pid}


@fault("killed-then-empty", "worker", "child", "redis", empties="redis")
async def killed_then_empty(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """A worker is killed, and Redis forgets before anybody has noticed: its jobs are in the broker alone."""
    worker = chance.choice(_members(stage, WORKERS))
    pid = _signal(worker.pid, signal.SIGKILL)
    await stage.redis.flushall()
    return {"who": worker.name, "pid": pid}


@fault("fence", "worker", "child", seconds=(LEASE_SECONDS + 2, LEASE_SECONDS + 4))
async def fence(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """A worker is frozen for longer than its leases, the broker gives its jobs to others, and it wakes up."""
    worker = chance.choice(_members(stage, WORKERS))
    pid = _signal(worker.pid, signal.SIGSTOP)
    worker.ways["rabbitmq"].cut(reset=True)
    await _freeze([pid], fault.seconds)
    return {"who": worker.name, "pid": pid, "seconds": round(fault.seconds, 1)}


@fault("empty-then-old-copies", "rabbitmq", "redis", empties="redis", seconds=(5, 9))
async def empty_then_old_copies(stage: Stage, fault: Fault, chance: random.Random) -> Facts:
    """Copies are made of what waits; most of their tasks end, or are deleted; Redis forgets that; the copies come."""
    copies = []
    async with stage.channel() as channel:
        for name in [*QUEUES, *map(delay_name, DELAY_LEVELS[:3])]:
            queue = await channel.get_queue(name, ensure=True)
            taken = [message async for message in _taken(queue, 60)]
            for message in taken:
                copies.append(message)
                await message.nack(requeue=True)
    if not copies:
        raise NothingBroken("no message waits")
    await asyncio.sleep(fault.seconds)
    await stage.redis.flushall()
    async with stage.channel() as channel:
        for message in copies:
            await channel.default_exchange.publish(message, _work_queue(message))
    return {"copies": len(copies)}


ALL: Final = tuple(kind for kind, _ in KINDS.values())


def kinds(names: list[str]) -> tuple[Kind, ...]:
    """The kinds of these names; all if there are none."""
    return tuple(KINDS[name][0] for name in names) if names else ALL
