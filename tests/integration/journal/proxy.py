"""A TCP proxy that holds or loses what passes, in one direction or both, when the test says so."""

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter, Task
from threading import Event, Thread
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


class ResettingProxy:
    """In front of one server, for one connection, on threads: it goes on while the test's loop stands still.

    After `reset_amid_answer` the next answer ends after its first bytes, with a reset right behind them.
    """

    def __init__(self, host: str, port: int) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._target = (host, port)
        self._resets = False
        self.was_reset = Event()
        Thread(target=self._serve, daemon=True).start()

    def reset_amid_answer(self) -> None:
        self._resets = True

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        self._listener.close()
        server = socket.create_connection(self._target)
        questions = Thread(target=self._pass_questions, args=(client, server), daemon=True)
        questions.start()
        with client, server:
            while data := server.recv(65536):
                if self._resets:
                    client.sendall(data[:7])
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.shutdown(socket.SHUT_RD)
                    questions.join()  # a socket that somebody reads from is not closed
                    break
                client.sendall(data)
        self.was_reset.set()

    def _pass_questions(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65536):
            server.sendall(data)
