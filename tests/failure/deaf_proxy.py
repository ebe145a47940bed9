"""A TCP proxy between one node and Redis that can keep what is published from the node, and nothing else.

So a subscription looks that is silently gone: every command is answered, no message comes.
"""

import asyncio
import re
from asyncio import AbstractEventLoop, StreamReader, StreamWriter
from collections.abc import Coroutine
from contextlib import suppress
from threading import Thread
from typing import Any, Final, Self

from deploy.local.ports import HOST

MESSAGE: Final = b">3\r\n$7\r\nmessage\r\n"
_LENGTH: Final = re.compile(rb"\$(\d+)\r\n")


class DeafProxy:
    """Forwards to `target`, on a thread of its own. `deafen` and `heal` may be called from anywhere."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._loop: AbstractEventLoop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="deaf-proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[_Link] = set()
        self._deafens_new = False
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, HOST, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def deafen(self, new_ones_too: bool) -> None:
        """From here on no message passes: on connections that are open, and on later ones if so."""
        self._deafens_new = new_ones_too
        for link in list(self._links):
            link.deaf = True

    def heal(self) -> None:
        """Everything passes again."""
        self._deafens_new = False
        for link in list(self._links):
            link.deaf = False

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        link = _Link(self._deafens_new)
        self._links.add(link)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        finally:
            self._tasks.discard(task)
        self._tasks.add(task)
        try:
            await asyncio.gather(_pass(reader, back), _pass(there, writer, link))
        finally:
            self._tasks.discard(task)
            self._links.discard(link)

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Link:
    """What came from Redis and is not complete yet."""

    def __init__(self, deaf: bool) -> None:
        self.deaf = deaf
        self._rest = b""

    def passes(self, data: bytes) -> bytes:
        """What of `data` the node gets now."""
        self._rest += data
        passed = b""
        while (start := self._rest.find(MESSAGE)) >= 0:
            end = self._end_of_message(start + len(MESSAGE))
            if end is None:
                passed += self._rest[:start]
                self._rest = self._rest[start:]
                return passed
            passed += self._rest[: start if self.deaf else end]
            self._rest = self._rest[end:]
        if MESSAGE.startswith(self._rest[self._rest.rfind(b">") :]) and b">" in self._rest:
            cut = self._rest.rfind(b">")
        else:
            cut = len(self._rest)
        passed += self._rest[:cut]
        self._rest = self._rest[cut:]
        return passed

    def _end_of_message(self, at: int) -> int | None:
        """Where channel and data, two texts with their lengths, end. None: not here yet."""
        for _ in range(2):
            length = _LENGTH.match(self._rest, at)
            if length is None:
                return None
            at = length.end() + int(length[1]) + 2
        return at if at <= len(self._rest) else None


async def _pass(reader: StreamReader, writer: StreamWriter, link: _Link | None = None) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(link.passes(data) if link else data)
    writer.close()
