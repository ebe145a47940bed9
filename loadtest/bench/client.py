"""Many connections on one core: raw non-blocking sockets, epoll, one buffer. Never asyncio, never app.

It counts every byte of every connection and reads some of them frame by frame: a server that loses, repeats
or changes anything has no figure.
"""

import select
import socket
import struct
from collections.abc import Callable, Sequence
from itertools import islice
from time import perf_counter
from types import TracebackType
from typing import Final, Self

from loadtest.bench import wire

WINDOW: Final = 64
"""Connects under way at a time."""
SAMPLE_EVERY: Final = 50
"""One connection in so many is read frame by frame."""
CONNECT_SECONDS: Final = 60.0
PER_ADDRESS: Final = 10_000
"""So many connections of a crowd come from one address: a system has some 28,000 ports for them."""

_TCP_INFO_BYTES: Final = 192
_DATA_SEGMENTS_IN: Final = struct.Struct("@152xI")  # tcpi_data_segs_in, whose place in tcp_info is Linux' ABI
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # no TIME_WAIT, or the ports would run out
_BUFFER: Final = 1 << 20
_BIND_ADDRESS_NO_PORT: Final = 24  # Linux: the port is chosen when it connects, so it may serve many servers
_PING: Final = bytes((wire.PING, 0))
_PONG: Final = wire.answer(wire.PING, b"")


class Crowd:
    """Open connections to one server on 127.0.0.1."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._got: dict[int, int] = {}
        self._read: dict[int, Callable[[], int]] = {}
        self._samples: dict[int, bytearray] = {}
        self._epoll = select.epoll()
        self._buffer = bytearray(_BUFFER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._sockets)

    @property
    def sockets(self) -> list[socket.socket]:
        """In the order of opening. They are the crowd's: it closes them."""
        return list(self._sockets.values())

    def close(self) -> None:
        """Reset every connection."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()
        self._epoll.close()

    # Opening ---------------------------------------------------------------------------------------------

    def open(self, port: int, requests: Sequence[bytes]) -> float:
        """One connection for each request, `WINDOW` at a time, each until its first frame. Returns seconds.

        Whoever was there before is pinged meanwhile, at most.
        Raises `WireError` for a refusal, a lost connection, or when it takes longer than CONNECT_SECONDS.
        """
        started = perf_counter()
        waiting: dict[int, bytes] = {}  # socket to what of its request is unsent
        heads: dict[int, bytes] = {}
        remaining = iter(requests)
        for request in islice(remaining, WINDOW):
            self._begin(port, request, waiting)
        while waiting:
            events = self._epoll.poll(CONNECT_SECONDS, WINDOW)
            if not events or perf_counter() > started + CONNECT_SECONDS:
                raise wire.WireError(f"{len(waiting)} connections are not open after {CONNECT_SECONDS:g} s")
            for number, event in events:
                if number not in waiting:
                    self._answer(number)
                    continue
                one = self._sockets[number]
                if unsent := waiting[number]:
                    if event & select.EPOLLOUT:
                        one.send(unsent)
                        waiting[number] = b""
                        self._epoll.modify(number, select.EPOLLIN)
                    continue
                data = one.recv(4096)
                head = heads.pop(number, b"") + data
                if not data:
                    raise wire.WireError(f"the server hung up after {head[:200]!r}")
                end = wire.opened(head)
                if not end:
                    heads[number] = head
                    continue
                if end != len(head):
                    raise wire.WireError(f"more than one frame at first: {head[end : end + 50]!r}")
                del waiting[number]
                for request in islice(remaining, 1):
                    self._begin(port, request, waiting)
        seconds = perf_counter() - started
        self._watch()
        return seconds

    def _begin(self, port: int, request: bytes, waiting: dict[int, bytes]) -> None:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        one.setblocking(False)
        if address := len(self._sockets) // PER_ADDRESS:
            one.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            one.bind((f"127.0.0.{1 + address}", 0))
        self._sockets[one.fileno()] = one
        one.connect_ex(("127.0.0.1", port))
        # On loopback the handshake is through when connect returns, so the request usually goes out at once.
        try:
            one.send(request)
        except (BlockingIOError, BrokenPipeError):
            self._epoll.register(one, select.EPOLLOUT)
            waiting[one.fileno()] = request
        else:
            self._epoll.register(one, select.EPOLLIN)
            waiting[one.fileno()] = b""

    def _watch(self) -> None:
        for position, (number, one) in enumerate(self._sockets.items()):
            if number in self._read:
                continue
            if position % SAMPLE_EVERY == 0:
                self._samples[number] = bytearray()
                self._read[number] = _keeping(one, self._buffer, self._samples[number])
            else:
                self._read[number] = _counting(one, self._buffer)

    # Talking and listening -------------------------------------------------------------------------------

    def ask(self, question: bytes, answer: bytes, seconds: float) -> None:
        """Send one frame on each connection, and expect the payload `answer` on each."""
        for one in self._sockets.values():
            one.send(question)
        self.receive([answer], seconds)

    def receive(self, expected: Sequence[bytes], seconds: float) -> float:
        """Read until each connection got exactly these payloads' frames. Returns when (`perf_counter`).

        Raises `WireError` for anything less, more or else, or when it takes longer than `seconds`.
        """
        size = sum(len(wire.frame(payload)) for payload in expected)
        deadline = perf_counter() + seconds
        got = self._got = dict.fromkeys(self._sockets, 0)
        read, poll = self._read, self._epoll.poll
        missing = len(got)
        while missing:
            left = deadline - perf_counter()
            if left <= 0:
                raise wire.WireError(self._lacking(size, seconds))
            for number, _ in poll(left, 4096):
                count = read[number]()
                if not count:
                    raise wire.WireError(f"a connection was closed after {got[number]:,} of {size:,} bytes")
                total = got[number] = got[number] + count
                if total >= size:
                    if total > size:
                        raise wire.WireError(f"a connection got {total:,} bytes instead of {size:,}")
                    missing -= 1
        done = perf_counter()
        self._compare(expected)
        return done

    def stay(self, seconds: float) -> None:
        """Answer pings for so long. Raises `WireError` if anything else comes."""
        until = perf_counter() + seconds
        while (left := until - perf_counter()) > 0:
            for number, _ in self._epoll.poll(left, 4096):
                self._answer(number)

    def _answer(self, number: int) -> None:
        one = self._sockets[number]
        if (data := one.recv(4096)) != _PING:
            raise wire.WireError(f"expected nothing but pings, got {data[:200]!r}")
        one.send(_PONG)

    def segments(self) -> float:
        """How many TCP segments with data a connection has received so far, on average."""
        total = 0
        for one in self._sockets.values():
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            total += _DATA_SEGMENTS_IN.unpack_from(info)[0]
        return total / len(self)

    def _lacking(self, size: int, seconds: float) -> str:
        short = [count for count in self._got.values() if count < size]
        return (
            f"after {seconds:g} s {len(short):,} of {len(self):,} connections lack bytes; "
            f"one has {min(short):,} of {size:,}"
        )

    def _compare(self, expected: Sequence[bytes]) -> None:
        for sample in self._samples.values():
            found = wire.payloads(bytes(sample))
            if found != list(expected):
                wrong = next(
                    (pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None
                )
                raise wire.WireError(f"a connection got other frames than were published: {wrong}")
            sample.clear()


def _counting(one: socket.socket, buffer: bytearray) -> Callable[[], int]:
    receive = one.recv_into

    def read() -> int:
        return receive(buffer)

    return read


def _keeping(one: socket.socket, buffer: bytearray, sample: bytearray) -> Callable[[], int]:
    receive = one.recv_into

    def read() -> int:
        count = receive(buffer)
        sample.extend(memoryview(buffer)[:count])
        return count

    return read
