"""As much of an AMQP client as it takes to ask a broker whether it is up, and who consumes from it.

The product's client reconnects, confirms and runs on a loop; none of that is wanted while a server boots.
"""

import socket
from contextlib import ExitStack
from typing import BinaryIO, Self, cast

from pamqp import commands
from pamqp.base import Frame
from pamqp.exceptions import PAMQPException
from pamqp.frame import marshal, unmarshal

from stack.ports import HOST

HEADER = b"AMQP\0\0\x09\x01"
FRAME_HEAD = 7  # type, channel, size of the payload; an end mark of one byte follows the payload


class NoAnswer(Exception):
    """The broker is not up, closed the connection, or answered with something else than was asked for."""


class Session:
    """One connection, logged in, with channel 1 open; entering it raises NoAnswer until the node is up."""

    def __init__(self, port: int, user: str, password: str, vhost: str) -> None:
        self._port, self._user, self._password, self._vhost = port, user, password, vhost

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            try:
                self._peer = undo.enter_context(socket.create_connection((HOST, self._port), timeout=5))
            except OSError as error:
                raise NoAnswer(str(error)) from error
            self._answers: BinaryIO = undo.enter_context(self._peer.makefile("rb"))
            secret = f"\0{self._user}\0{self._password}"
            self._ask(HEADER, "Connection.Start")
            self._ask(marshal(commands.Connection.StartOk({}, "PLAIN", secret, "en_US"), 0), "Connection.Tune")
            tuned = marshal(commands.Connection.TuneOk(1, 131072, 0), 0)
            self._ask(tuned + marshal(commands.Connection.Open(self._vhost), 0), "Connection.OpenOk")
            self._ask(marshal(commands.Channel.Open(), 1), "Channel.OpenOk")
            self._close = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._close:
            self._ask(marshal(commands.Connection.Close(200, "bye", 0, 0), 0), "Connection.CloseOk")

    def consumers(self, queue: str) -> int:
        """Return how many consumers a queue has; 0 when it is not there, and the session is of no use then."""
        try:
            answer = self._ask(marshal(commands.Queue.Declare(0, queue, passive=True), 1), "Queue.DeclareOk")
        except NoAnswer:
            return 0
        return int(cast("commands.Queue.DeclareOk", answer).consumer_count or 0)

    def _ask(self, request: bytes, wanted: str) -> Frame:
        try:
            self._peer.sendall(request)
            head = self._answers.read(FRAME_HEAD)
            if len(head) < FRAME_HEAD:
                raise NoAnswer("the broker closed the connection")
            rest = self._answers.read(int.from_bytes(head[3:]) + 1)
            answer = unmarshal(head + rest)[2]
        except (OSError, PAMQPException) as error:
            raise NoAnswer(str(error)) from error
        if answer.name != wanted or not isinstance(answer, Frame):
            raise NoAnswer(f"{wanted} was expected, {answer.name} came")
        return answer
