"""Somebody who only listens to one room, by server-sent events, and comes back to any node."""

import asyncio
import json
from asyncio import StreamReader
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, Final

from tests.failure.checker.returning import Address, Returning

SILENCE_SECONDS: Final = 20.0
"""A line comes every 15 s, so this is a dead connection."""


class Listener(Returning):
    """It cannot page: what it knows begins with the oldest message of its last snapshot."""

    ends = (OSError, EOFError, TimeoutError)

    def __init__(self, *arguments: Any, room: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._room = room
        self._stream = f"room.{room}"

    @property
    def is_in_all(self) -> bool:
        return self._stream in self.account.shut_out or self.view.is_in(self._stream)

    def is_at(self, last: dict[str, tuple[int, int]]) -> bool:
        """Whether it has all up to (epoch, sequence)."""
        return self._stream in self.account.shut_out or self.view.is_at(self._stream, *last[self._stream])

    @property
    def _may_return(self) -> bool:
        return self._stream not in self.account.shut_out

    async def _visit(self, address: Address) -> None:
        left = self.view.left_at(self._stream)
        host, port = address
        headers = [f"Host: {host}:{port}", f"Cookie: {self._cookie}", "Accept: text/event-stream"]
        if left is not None:
            headers.append("Last-Event-ID: {}-{}".format(*left))
        request = "\r\n".join([f"GET /rooms/{self._room}/events/ HTTP/1.1", *headers, "", ""])
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request.encode())
            status = int((await self._line(reader)).split()[1])
            while await self._line(reader):
                pass
            if status in (403, 404):
                self.account.shut_out.add(self._stream)
            elif status == 200:
                if left is not None:
                    self.view.begin(self._stream, f"{host}:{port}", *left)
                async for fields in self._events(reader):
                    self._take(fields, f"{host}:{port}")
        finally:
            with suppress(OSError):
                writer.transport.abort()
        raise EOFError

    def _take(self, fields: dict[str, str], node: str) -> None:
        if "data" not in fields:  # `retry`: the node leaves
            return
        data = json.loads(fields["data"])
        if "event" not in fields:
            self.view.take(data)
            return
        self.view.forget(self._stream, f"{fields['event']}: {data['reset']}")
        position, messages = data["position"], data["messages"]
        assert fields["id"] == f"{position['epoch']}-{position['sequence']}", fields["id"]
        self.view.begin(self._stream, node, position["epoch"], position["sequence"])
        self.view.page(self._stream, messages)
        self.account.horizon[self._stream] = messages[0]["sequence"] if data["earlier"] else 0

    async def _events(self, reader: StreamReader) -> AsyncIterator[dict[str, str]]:
        """The fields of one event after the other."""
        text = ""
        while size := int(await self._line(reader), 16):
            text += (await self._soon(reader.readexactly(size + 2)))[:-2].decode()
            while "\n\n" in text:
                event, _, text = text.partition("\n\n")
                fields = dict(line.split(": ", 1) for line in event.split("\n") if not line.startswith(":"))
                if fields:
                    yield fields

    async def _line(self, reader: StreamReader) -> str:
        line = await self._soon(reader.readline())
        if not line.endswith(b"\n"):
            raise EOFError
        return line.decode().strip()

    async def _soon(self, read: Coroutine[Any, Any, bytes]) -> bytes:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await read
