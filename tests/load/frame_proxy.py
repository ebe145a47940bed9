"""A door in front of nodes, as an ingress is one, that may tamper with single frames of WebSockets.

It lives on a thread of its own, so that tests may block. What it is to do with a frame, `Tamper` says.
"""

import asyncio
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from threading import Thread
from typing import Any, Final, Self

from deploy.local.ports import HOST

TEXT: Final = 1
HEAD_END: Final = b"\r\n\r\n"


class Tamper:
    """Passes everything on. A payload becomes any number of payloads; `link` numbers connections from 1."""

    def to_client(self, link: int, payload: bytes) -> list[bytes]:
        return [payload]

    def to_node(self, link: int, payload: bytes) -> list[bytes]:
        return [payload]


class FrameProxy:
    """WebSockets take the targets in turn, and so do plain requests."""

    def __init__(self, targets: Sequence[int], tamper: Tamper) -> None:
        self._targets = targets
        self._tamper = tamper
        self._numbers, self._links = count(), count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="frame-proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._accept, HOST, 0, backlog=512)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back: StreamWriter | None = None
        try:
            head = await reader.readuntil(HEAD_END)
            link = next(self._links) if b"\r\nupgrade: websocket" in head.lower() else 0
            number = link or next(self._numbers)
            there, back = await asyncio.open_connection(HOST, self._targets[number % len(self._targets)])
            back.write(head)
            if not link:
                await _both(_raw(reader, back), _raw(there, writer))
                return
            writer.write(await there.readuntil(HEAD_END))
            await _both(
                self._pass(reader, back, link, masked=True), self._pass(there, writer, link, masked=False)
            )
        except (OSError, IncompleteReadError):
            pass  # one side is gone
        finally:
            self._tasks.discard(task)
            for end in (writer, back):
                if end is not None:
                    end.close()

    async def _pass(self, reader: StreamReader, writer: StreamWriter, link: int, *, masked: bool) -> None:
        tamper = self._tamper.to_node if masked else self._tamper.to_client
        async for kind, payload in _frames(reader):
            payloads = tamper(link, payload) if kind == TEXT else [payload]
            writer.writelines(_frame(kind, one, masked) for one in payloads)
            await writer.drain()


async def _both(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one way has ended."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _raw(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)


async def _frames(reader: StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Whole messages: neither side cuts them into pieces."""
    with suppress(IncompleteReadError):
        while True:
            first, second = await reader.readexactly(2)
            size = second & 127
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
            mask = await reader.readexactly(4) if second & 128 else b""
            payload = await reader.readexactly(size)
            yield first & 15, _masked(payload, mask) if mask else payload


def _frame(kind: int, payload: bytes, masked: bool) -> bytes:
    size, bit = len(payload), 128 if masked else 0
    if size < 126:
        head = bytes([128 | kind, bit | size])
    elif size < 2**16:
        head = bytes([128 | kind, bit | 126]) + size.to_bytes(2)
    else:
        head = bytes([128 | kind, bit | 127]) + size.to_bytes(8)
    return head + bytes(4) + payload if masked else head + payload  # a mask of zeros changes nothing


def _masked(payload: bytes, mask: bytes) -> bytes:
    keys = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(len(payload))
