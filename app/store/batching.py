"""RoundTrips: commands of many callers share one write to Redis, and its answers come back together.

What is asked for in the same tick of the loop goes out in one group; while two groups are under way, the next one
gathers, until it has as many bytes as Redis reads at once: then it goes, too, over a connection of its own. Redis takes
so much from each connection in a turn of its loop, and writes to disk once for all of them: a crowd that came over one
connection would wait for a write to disk after each dozen of its commands. A caller awaits the answer of its own
command and knows nothing of the others: an error that Redis answers is one command's, a lost connection is the whole
group's. The loop's own tick sends, so an idle service adds no wait.

It must never carry a command that blocks. Of several calls the order is open, unless one leads the next.
"""

import asyncio
from collections import deque
from contextvars import Context
from functools import partial
from math import inf
from typing import Any, ClassVar, Final, NamedTuple
from weakref import WeakKeyDictionary

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

GROUP_BYTES: Final = 16 * 1024
"""A group that has so many is full: PROTO_IOBUF_LEN in Redis' source."""
GROUPS_IN_FLIGHT: Final = 2
"""One is with Redis while the answers of the other are read."""
FULL_GROUPS_IN_FLIGHT: Final = 16
"""As long as those that wait are enough for a full group."""

Argument = str | bytes | int | float


class _Call(NamedTuple):
    packed: bytes
    answer: asyncio.Future[Any]
    leads: bool
    """Whether the next call is to come after this one, in the same group."""


class RoundTrips:
    """Carries commands in groups, over connections of one client's pool. A client has one of these: see `of`.

    It belongs to one event loop, as the client does.
    """

    _of_clients: ClassVar["WeakKeyDictionary[Redis, RoundTrips]"] = WeakKeyDictionary()

    def __init__(self, redis: Redis) -> None:
        self._pool: Any = redis.connection_pool
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Call] = deque()
        self._waiting_bytes = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_called_soon = False

    @classmethod
    def of(cls, redis: Redis) -> "RoundTrips":
        """Return the one that all who share this client share as well."""
        if redis not in cls._of_clients:
            cls._of_clients[redis] = cls(redis)
        return cls._of_clients[redis]

    def call(self, *command: Argument, leads: bool = False) -> asyncio.Future[Any]:
        """Send a command with all others of this tick; the future has its answer, with bytes left as they are.

        One that `leads` goes in one write with the call that comes next, and Redis has done it before that.

        A caller that is cancelled does not cancel the command: it may have happened already, and its answer must not
        be read by somebody else (redis-py, CVE-2023-28858). Where a connection is lost the command is sent again.

        Raises, when awaited:
            ResponseError: Redis refuses this command.
            RedisError, OSError: No answer; the command may or may not have happened.
        """
        if self._loop is None:  # to ask for it is a system call (Python 3.11), and this is done for each command
            self._loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = self._loop.create_future()
        packed = pack_command(command)  # type: ignore[arg-type]  # any length will do
        self._waiting.append(_Call(packed, answer, leads))
        self._waiting_bytes += len(packed)
        if not self._is_called_soon and self._may_depart():
            self._is_called_soon = True
            self._loop.call_soon(self._depart, context=_NOBODYS)
        return answer

    def _depart(self) -> None:
        self._is_called_soon = False
        while self._may_depart():
            trip = asyncio.create_task(self._travel(self._next_group()), name="round trips", context=_NOBODYS)
            self._under_way.add(trip)
            trip.add_done_callback(self._arrived, context=_NOBODYS)

    def _may_depart(self) -> bool:
        at_most = GROUPS_IN_FLIGHT if self._waiting_bytes < GROUP_BYTES else FULL_GROUPS_IN_FLIGHT
        return bool(self._waiting) and len(self._under_way) < at_most

    def _next_group(self) -> deque[_Call]:
        group: deque[_Call] = deque()
        size = 0
        while self._waiting and (size < GROUP_BYTES or group[-1].leads):
            call = self._waiting.popleft()
            group.append(call)
            size += len(call.packed)
        self._waiting_bytes -= size
        return group

    def _arrived(self, trip: asyncio.Task[None]) -> None:
        self._under_way.discard(trip)
        self._depart()

    async def _travel(self, group: deque[_Call]) -> None:
        """Answer every call of a group, whatever happens, and of those that gather meanwhile.

        Calls that are answered leave their group.
        """
        try:
            connection = await self._pool.get_connection()
            try:
                while group:
                    converse = partial(_converse, connection, group)
                    await connection.retry.call_with_retry(converse, lambda _: connection.disconnect())
                    await asyncio.sleep(0)  # whoever has been answered may ask something else
                    group = self._next_group()
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
                self._waiting_bytes = 0
            for call in group:
                _fail(call.answer, error)


_NOBODYS: Final = Context()
"""A group belongs to no request: the first caller's id has no business in the others' work."""


async def _converse(connection: Any, group: deque[_Call]) -> None:
    """Send what is not answered yet in one write, and read the answers in turn, all under one timeout."""
    await connection.send_packed_command([b"".join(call.packed for call in group)])
    try:
        async with asyncio.timeout(connection.socket_timeout):
            while group:
                try:
                    reply = await connection.read_response(timeout=inf)  # redis-py's own would begin with each answer
                except ResponseError as error:
                    _fail(group.popleft().answer, error)
                else:
                    answer = group.popleft().answer
                    if not answer.done():
                        answer.set_result(reply)
    except TimeoutError:  # reading was cancelled, and redis-py has closed the connection
        raise RedisTimeoutError("Redis does not answer.") from None


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # if the caller has gone, the error is nobody's, and asyncio would log it
