"""RoundTrips: commands of many callers share one write to Redis, and its answers come back together.

What is asked for in the same tick of the loop goes out in one group; while two groups are under way, the next one
gathers. A caller awaits the answer of its own command and knows nothing of the others: an error that Redis answers is
one command's, a lost connection is the whole group's. The loop's own tick sends, so an idle service adds no wait.

It must never carry a command that blocks, nor several that need their order: a group may end between them.
"""

import asyncio
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

GROUP_COMMANDS: Final = 256
"""So many commands go in one write at most: the first of a group waits for the last to be written."""
GROUPS_IN_FLIGHT: Final = 2
"""One is with Redis while the answers of the other are read."""

Argument = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class _Call:
    packed: bytes
    answer: asyncio.Future[Any]


class RoundTrips:
    """Carries commands in groups, over connections of one client's pool. A client has one of these: see `of`."""

    _of_clients: ClassVar["WeakKeyDictionary[Redis, RoundTrips]"] = WeakKeyDictionary()

    def __init__(self, redis: Redis) -> None:
        self._pool: Any = redis.connection_pool
        self._waiting: deque[_Call] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_called_soon = False

    @classmethod
    def of(cls, redis: Redis) -> "RoundTrips":
        """Return the one that all who share this client share as well."""
        if redis not in cls._of_clients:
            cls._of_clients[redis] = cls(redis)
        return cls._of_clients[redis]

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command with all others of this tick; the future has its answer, with bytes left as they are.

        A caller that is cancelled does not cancel the command: it may have happened already, and its answer must not
        be read by somebody else (redis-py, CVE-2023-28858). Where a connection is lost the command is sent again.

        Raises, when awaited:
            ResponseError: Redis refuses this command.
            RedisError, OSError: No answer; the command may or may not have happened.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Call(pack_command(command), answer))  # type: ignore[arg-type]  # any length will do
        if not self._is_called_soon and len(self._under_way) < GROUPS_IN_FLIGHT:
            self._is_called_soon = True
            loop.call_soon(self._depart, context=_NOBODYS)
        return answer

    def _depart(self) -> None:
        self._is_called_soon = False
        while self._waiting and len(self._under_way) < GROUPS_IN_FLIGHT:
            size = min(len(self._waiting), GROUP_COMMANDS)
            group = deque(self._waiting.popleft() for _ in range(size))
            trip = asyncio.create_task(self._travel(group), name="round trip", context=_NOBODYS)
            self._under_way.add(trip)
            trip.add_done_callback(self._arrived, context=_NOBODYS)

    def _arrived(self, trip: asyncio.Task[None]) -> None:
        self._under_way.discard(trip)
        self._depart()

    async def _travel(self, group: deque[_Call]) -> None:
        """Answer every call of a group, whatever happens; those that are answered leave it."""
        try:
            connection = await self._pool.get_connection()
            try:
                await connection.retry.call_with_retry(
                    lambda: _converse(connection, group), lambda _: connection.disconnect()
                )
            finally:
                await self._pool.release(connection)
        except asyncio.CancelledError:
            for call in group:
                call.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers are told, and nobody else can be
            if isinstance(error, RedisTimeoutError):  # who waits behind a Redis that hangs has waited long enough, too
                group.extend(self._waiting)
                self._waiting.clear()
            for call in group:
                _fail(call.answer, error)


_NOBODYS: Final = Context()
"""A group belongs to no request: the first caller's id has no business in the others' work."""


async def _converse(connection: Any, group: deque[_Call]) -> None:
    """Send what is not answered yet in one write, and read the answers in turn."""
    await connection.send_packed_command([b"".join(call.packed for call in group)])
    while group:
        try:
            reply = await connection.read_response()
        except ResponseError as error:
            _fail(group.popleft().answer, error)
        else:
            answer = group.popleft().answer
            if not answer.done():
                answer.set_result(reply)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # if the caller has gone, the error is nobody's, and asyncio would log it
