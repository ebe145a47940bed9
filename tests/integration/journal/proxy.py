"""A TCP proxy that holds or loses what passes, in one direction or both, when the test says so."""

import asyncio
from asyncio import StreamReader, StreamWriter, Task
from typing import Self
from urllib.parse import urlsplit

from deploy.local.ports import HOST


class Proxy:
    """In front of one server. `hold_questions`, `hold_answers`: what comes from there on goes no further."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._tasks: set[Task[None]] = set()
        self._writers: set[StreamWriter] = set()
        self.hold_questions = False
        self.hold_answers = False
        self.budget: int | None = None
        """How many bytes of questions may still pass before the rest is held; None: all."""
        self.asked = 0
        """Bytes of questions so far."""
        self.held = asyncio.Event()
        """Set when something was held."""
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, url: str) -> str:
        """That database, through here."""
        return urlsplit(url)._replace(netloc=f"postgres@{HOST}:{self.port}").geturl()

    def cut(self) -> None:
        """End all connections without a word, on both sides; new ones are let through."""
        self.hold_questions = self.hold_answers = False
        self.held.clear()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.connections += 1
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, server_writer}
        for source, target, questions in ((reader, server_writer, True), (server_reader, writer, False)):
            task = asyncio.get_running_loop().create_task(self._pass(source, target, questions))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: StreamReader, target: StreamWriter, questions: bool) -> None:
        try:
            while data := await source.read(65536):
                passes = self._passes(data, questions)
                if len(passes) < len(data):
                    self.held.set()
                target.write(passes)
                await target.drain()
        except OSError:
            pass  # cut
        finally:
            target.close()

    def _passes(self, data: bytes, questions: bool) -> bytes:
        if not questions:
            return b"" if self.hold_answers else data
        self.asked += len(data)
        if self.hold_questions:
            return b""
        if self.budget is None:
            return data
        passes = data[: self.budget]
        self.budget -= len(passes)
        return passes
