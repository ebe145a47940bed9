"""Connections that say one thing and hear another: each frame is read, and kept with the time it came.

Raw non-blocking sockets and epoll, as in `client`: the generator of load must not be what is measured.
"""

import select
import socket
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Final

from loadtest.bench import wire

REPLY: Final = b'{"id":'
DURABLE: Final = b'{"stream":'
"""How answers to commands and durable events begin."""

_buffer: Final = bytearray(2**20)
"""One read takes all that an observer of a busy room was sent meanwhile, or the node would cut it off."""
_view: Final = memoryview(_buffer)


class Refused(wire.WireError):
    """A command was answered with an error."""


class Line:
    """One open connection."""

    __slots__ = ("_receive", "_rest", "heard", "send", "socket")

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self.send = one.send
        self._receive = one.recv_into
        self.heard: list[tuple[float, bytes]] = []
        self._rest = b""

    def read(self) -> list[bytes]:
        """The payloads that became whole with what is there now. Raises `WireError` if it was closed."""
        count = self._receive(_buffer)
        if not count:
            raise wire.WireError("a connection was closed")
        found, self._rest = wire.whole_frames(self._rest + bytes(_view[:count]))
        return found


class Lines:
    """Some connections, listened to together."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)
        self._by_number = {line.socket.fileno(): line for line in self.lines}
        self._epoll = select.epoll()
        for number in self._by_number:
            self._epoll.register(number, select.EPOLLIN)

    def close(self) -> None:
        """Listen no more. The connections stay open."""
        self._epoll.close()

    def ready(self, seconds: float) -> list[Line]:
        """Those with something to read, as soon as there are any; none after `seconds`."""
        by_number = self._by_number
        return [by_number[number] for number, _ in self._epoll.poll(max(0.0, seconds), 4096)]

    def ask(self, questions: Sequence[bytes], seconds: float, *, events: int = 0) -> list[list[bytes]]:
        """One frame from each; returns each one's answer and the `events` durable events that follow it.

        Other events are skipped. Raises `Refused` once all have an answer, and `WireError` when it takes
        longer than `seconds` or an event came before the answer.
        """
        heard: dict[Line, list[bytes]] = {line: [] for line in self.lines}
        deadline = perf_counter() + seconds
        for line, question in zip(self.lines, questions, strict=True):
            line.send(question)
        missing = len(heard)
        while missing:
            left = deadline - perf_counter()
            if left <= 0:
                poorest = str(min(heard.values(), key=len))[:300]
                raise wire.WireError(f"{missing:,} of {len(heard):,} connections lack something: {poorest}")
            for line in self.ready(left):
                got = heard[line]
                for payload in line.read():
                    if not payload.startswith((REPLY, DURABLE)):
                        continue
                    got.append(payload)
                    if len(got) == 1 and not payload.startswith(REPLY):
                        raise wire.WireError(f"an event came before the answer: {payload[:200]!r}")
                    if len(got) == 1 + events:
                        missing -= 1
        for got in heard.values():
            if len(got) != 1 + events:
                raise wire.WireError(f"expected an answer and {events} events, got {got}")
            if b'"error":' in got[0][:30]:
                raise Refused(f"a command was refused: {got[0]!r}")
        return list(heard.values())
