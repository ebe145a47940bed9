"""A TCP proxy in front of a database or a node, to be slow, silent, rude or treacherous at a moment's notice.

It lives on a thread of its own, so that tests may block. It understands one thing: what COMMIT looks like.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import Any, Final, Self, TypeVar

from deploy.local.ports import HOST

CHUNK: Final = 2**16
COMMIT_SENT: Final = b"COMMIT\0"
"""In what a client of PostgreSQL sends, and in the server's answer to it: `CommandComplete`."""
BATCH: Final = b'[{"n":0,"stream":'
"""How the rows of a batch begin that the journal's writer sends, whether its SQL is prepared or not: other
transactions are left alone."""

T = TypeVar("T")


class Proxy:
    """Forwards to `target`. What is set here holds for connections that are open, too."""

    def __init__(self, target: tuple[str, int], port: int) -> None:
        self.target = target
        self.port = port
        self.delay = 0.0
        """Seconds that each piece waits, in both directions."""
        self.commits_cut = 0
        """How many connections ended between COMMIT and its answer."""
        self._refuses = False
        self._cut_commits = 0
        self._silent = False
        self._hold_commit: Future[None] | None = None
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.start_server(self._accept, HOST, self.port)
        self._server = asyncio.run_coroutine_threadsafe(server, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._do(self._server.close)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def pass_on(self) -> None:
        """As if there were no proxy; a connection whose COMMIT is kept back ends."""
        self.delay = 0.0
        self._cut_commits = 0
        self._refuses = False
        self._do(self._flows.set)
        self._do(self._cut_held)

    def cut(self) -> None:
        """End every connection at once; what is on its way is gone."""
        self._do(self._cut_all)

    def refuse(self) -> None:
        """`cut`, and new connections end at once, too."""
        self._refuses = True
        self.cut()

    def hold(self) -> None:
        """Say nothing more, and reset nothing: what comes is kept back."""
        self._do(self._flows.clear)

    def cut_commits(self, count: int) -> None:
        """End that many connections after the server has committed, and before the client is told."""
        self._cut_commits = count

    def hold_next_commit(self, *, silent: bool = False) -> "Future[None]":
        """Keep back the next COMMIT, and all that follows on its connection; done when one is held.

        `silent`: the server is not even told when the client is gone.
        """
        self._silent = silent
        self._hold_commit = Future()
        return self._hold_commit

    # --- On the proxy's thread ---------------------------------------------------------------------------

    def _do(self, work: Callable[[], T]) -> T:
        async def done() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def _cut_all(self) -> None:
        for link in list(self._links):
            link.cut()

    def _cut_held(self) -> None:
        self._hold_commit = None
        for link in list(self._links):
            if link.held:
                link.cut()

    async def _end(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(link, reader, server_writer))
                both.create_task(self._return(link, server_reader, writer))
        except* (OSError, _Over):
            pass
        finally:
            self._links.discard(link)
            link.cut()

    async def _forward(self, link: "_Link", reader: StreamReader, writer: StreamWriter) -> None:
        while data := await self._next(reader):
            link.batch |= BATCH in data
            place = data.find(COMMIT_SENT) if link.batch else -1
            link.batch &= place < 0
            if place >= 0 and self._cut_commits > 0:
                self._cut_commits -= 1
                link.commit_cut = True
            if place >= 0 and self._hold_commit is not None:
                held, self._hold_commit = self._hold_commit, None
                writer.write(data[: _start_of_message(data, place)])
                link.held = True
                held.set_result(None)
                await reader.read()  # until the client is gone
                if self._silent:
                    await asyncio.Event().wait()
                raise _Over
            writer.write(data)
            await writer.drain()
        raise _Over

    async def _return(self, link: "_Link", reader: StreamReader, writer: StreamWriter) -> None:
        while data := await self._next(reader):
            if link.commit_cut and COMMIT_SENT in data:
                self.commits_cut += 1
                raise _Over
            writer.write(data)
            await writer.drain()
        raise _Over

    async def _next(self, reader: StreamReader) -> bytes:
        data = await reader.read(CHUNK)
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._flows.wait()
        return data


class _Over(Exception):
    """One side has ended, and so both do."""


class _Link:
    """One connection and the one behind it."""

    def __init__(self, *writers: StreamWriter) -> None:
        self.batch = False
        """A batch was begun on it, and its COMMIT did not come yet."""
        self.held = False
        """Its COMMIT is kept back."""
        self.commit_cut = False
        self._writers = writers

    def cut(self) -> None:
        for writer in self._writers:
            with suppress(Exception):
                transport: Any = writer.transport
                transport.abort()


def _start_of_message(data: bytes, place: int) -> int:
    """Where the message begins that has COMMIT at `place`: a kind, its length, what it says."""
    for kind in (b"P", b"Q"):
        start = data.rfind(kind, 0, place)
        if start >= 0 and start + 1 + int.from_bytes(data[start + 1 : start + 5]) >= place:
            return start
    return place
