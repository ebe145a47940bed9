"""A server that speaks just enough RESP3 to behave, and to misbehave, as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import cast

import hiredis

HELLO = b"%1\r\n+proto\r\n:3\r\n"
PRIMARY = b"*3\r\n+master\r\n:0\r\n*0\r\n"
Answer = Callable[[list[bytes]], bytes]


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


def push(*parts: bytes) -> bytes:
    return b">%d\r\n" % len(parts) + b"".join(bulk(part) for part in parts)


def behave(command: list[bytes]) -> bytes:
    """As a primary would that nobody else uses."""
    name, *words = command
    if name in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
        return b"".join(push(name.lower(), word, b"1") for word in words)
    return {b"HELLO": HELLO, b"ROLE": PRIMARY, b"PUBLISH": b":1\r\n"}.get(name, b"+OK\r\n")


class _Served(asyncio.Protocol):
    def __init__(self, server: "FakeRedis") -> None:
        self._server = server
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.clients.append(self._transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._server.reads += 1
        answers = b""
        while command := self._reader.gets():
            self._server.commands.append(command)
            answers += self._server.answer(command)
        self._transport.write(answers)


class FakeRedis:
    """`answer` turns each command into the bytes to send back; b"" is silence."""

    def __init__(self, answer: Answer = behave) -> None:
        self.answer = answer
        self.address = ("127.0.0.1", 0)
        self.clients: list[asyncio.Transport] = []
        self.commands: list[list[bytes]] = []
        self.reads = 0

    def names(self) -> list[bytes]:
        return [command[0] for command in self.commands]

    def say(self, data: bytes) -> None:
        """Unasked, to every client."""
        for client in self.clients:
            client.write(data)

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, answer: Answer = behave, tls: SSLContext | None = None
    ) -> AsyncIterator["FakeRedis"]:
        fake = cls(answer)
        server = await asyncio.get_running_loop().create_server(
            lambda: _Served(fake), "127.0.0.1", 0, ssl=tls
        )
        fake.address = server.sockets[0].getsockname()
        try:
            yield fake
        finally:
            server.close()
            for client in fake.clients:
                client.abort()
            await server.wait_closed()


def silent_after_hello(command: list[bytes]) -> bytes:
    return HELLO if command[0] == b"HELLO" else b""
