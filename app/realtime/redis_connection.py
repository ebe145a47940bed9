"""One RESP3 connection to a Redis server, commands and pub/sub together, everything on a deadline.

It never retries, never reconnects and never waits for a caller: whoever owns it is told once that it is lost.
"""

import asyncio
from asyncio import Future, TimerHandle, Transport
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from ssl import SSLContext
from typing import Any, Final, NamedTuple, cast

import hiredis

Address = tuple[str, int]
Pushed = Callable[[list[Sequence[bytes]]], None]
"""Takes what one read brought of pub/sub: `[b"message", channel, data]` in order of arrival."""

ErrorAnswer: Final[type[Exception]] = hiredis.ReplyError
"""How Redis' refusals stand among its answers."""

_NOTHING: Final = object()


def pack(*command: str | bytes | int) -> bytes:
    """The bytes of one command."""
    packed: bytes = hiredis.pack_command(cast("tuple[Any]", command))
    return packed


class RedisError(ConnectionError):
    """Redis answered, but not what was needed; the text says what."""


class RedisLost(RedisError):
    """The connection went away before Redis answered."""


class Credentials(NamedTuple):
    """Who we are to a server. An empty password: nobody in particular."""

    client_name: str
    username: str = ""
    password: str = ""
    tls: SSLContext | None = None


class _Awaited:
    """Commands written together, and what has been answered of them."""

    __slots__ = ("answers", "by_push", "count", "done")

    def __init__(self, count: int, by_push: bool, done: "Future[list[Any]]") -> None:
        self.count = count
        self.by_push = by_push
        self.answers: list[Any] = []
        self.done = done

    def finish(self) -> None:
        if not self.done.done():  # whoever waited may have been cancelled
            self.done.set_result(self.answers)


class RedisConnection(asyncio.Protocol):
    """Made by `open_connection`. `lost(reason)` is called exactly once, unless opening it failed.

    Reasons: `closed` by the other side, `ping_timeout`, `protocol_error`, or what `abort` was given.
    """

    def __init__(self, address: Address, pushed: Pushed) -> None:
        self.address = address
        self.lost: Callable[[str], None] | None = None
        self.lost_reason = ""
        self.closed: Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._pushed = pushed
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._awaited: deque[_Awaited] = deque()
        self._transport: Transport | None = None
        self._heartbeat: TimerHandle | None = None
        self._heard = False

    def send(self, commands: bytes, count: int, by_push: bool = False) -> "Future[list[Any]]":
        """Write packed commands that Redis answers with `count` answers.

        Done with the answers (errors are `ErrorAnswer` among them), fewer when the connection was lost
        or, `by_push` (SUBSCRIBE and UNSUBSCRIBE), refused; never fails.
        """
        awaited = _Awaited(count, by_push, self._loop.create_future())
        if self._transport is None or self.lost_reason:
            awaited.done.set_result([])
        else:
            self._awaited.append(awaited)
            self._transport.write(commands)
        return awaited.done

    def execute(self, *command: str | bytes | int) -> Coroutine[Any, Any, Any]:
        """Write one command at once; await its one answer. Raises `RedisError`."""
        return self._only_answer(command[0], self.send(pack(*command), 1))

    def unsent(self) -> int:
        """Bytes written here that the kernel has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def watch(self, seconds: float, command: str, judge: Callable[[Any], str]) -> None:
        """Send `command` every `seconds`; when nothing at all comes for as long, abort with `ping_timeout`.

        `judge` sees each answer and gives the reason to abort, or "".
        """
        self._heard = True
        self._beat(seconds, pack(command), judge)

    def abort(self, reason: str) -> None:
        """Close at once; what is unsent or unanswered is given up."""
        if self._transport is not None:
            self._transport.abort()
        self._finish(reason)

    def __str__(self) -> str:
        return f"Redis at {self.address[0]}:{self.address[1]}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.lost_reason:
            return
        self._heard = True
        reader = self._reader
        reader.feed(data)
        messages: list[Sequence[bytes]] = []
        try:
            while (answer := reader.gets()) is not _NOTHING:
                if type(answer) is not hiredis.PushNotification:
                    self._answered(answer, by_push=False)
                elif answer[0] == b"message":
                    messages.append(answer)
                elif answer[0] in (b"subscribe", b"unsubscribe"):
                    self._answered(answer, by_push=True)
        except hiredis.ProtocolError:
            self.abort("protocol_error")
        if messages:
            self._pushed(messages)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish("closed")
        if not self.closed.done():
            self.closed.set_result(None)

    async def _only_answer(self, name: str | bytes | int, answered: "Future[list[Any]]") -> Any:
        answers = await answered
        if not answers:
            raise RedisLost(f"{self} was lost: {self.lost_reason}")
        if isinstance(answers[0], ErrorAnswer):
            raise RedisError(f"{self} refused {name!s}: {answers[0]}")
        return answers[0]

    def _answered(self, answer: Any, by_push: bool) -> None:
        """Answers come in the order of commands, so each one belongs to the oldest command not yet done."""
        if not self._awaited or (by_push and not self._awaited[0].by_push):
            raise hiredis.ProtocolError("an answer nobody asked for")
        awaited = self._awaited[0]
        awaited.answers.append(answer)
        refused = awaited.by_push and not by_push
        if refused or len(awaited.answers) == awaited.count:
            self._awaited.popleft()
            awaited.finish()

    def _beat(self, seconds: float, command: bytes, judge: Callable[[Any], str]) -> None:
        if not self._heard:
            # After a stall of the loop, timers may run before the answer that waits in the kernel is read:
            # one more turn decides.
            self._heartbeat = self._loop.call_later(seconds / 10, self._last_look, seconds, command, judge)
            return
        self._heard = False

        def judged(answered: "Future[list[Any]]") -> None:
            if answered.result() and (reason := judge(answered.result()[0])):
                self.abort(reason)

        self.send(command, 1).add_done_callback(judged)
        self._heartbeat = self._loop.call_later(seconds, self._beat, seconds, command, judge)

    def _last_look(self, seconds: float, command: bytes, judge: Callable[[Any], str]) -> None:
        if self._heard:
            self._beat(seconds, command, judge)
        else:
            self.abort("ping_timeout")

    def _finish(self, reason: str) -> None:
        if self.lost_reason:
            return
        self.lost_reason = reason
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        while self._awaited:
            self._awaited.popleft().finish()
        if self.lost is not None:
            self.lost(reason)


async def open_connection(
    address: Address, credentials: Credentials, seconds: float, pushed: Pushed
) -> RedisConnection:
    """Connect and say hello within `seconds`. Raises `RedisError` with a text for people."""
    connection = RedisConnection(address, pushed)
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_connection(
                lambda: connection, *address, ssl=credentials.tls
            )
            await _say_hello(connection, credentials)
    except TimeoutError as error:
        connection.abort("closed")
        raise RedisError(f"{connection} did not answer within {seconds:g} s") from error
    except RedisError:
        connection.abort("closed")
        raise
    except OSError as error:
        raise RedisError(f"{connection} cannot be reached: {error.strerror or error}") from error
    except BaseException:
        connection.abort("closed")
        raise
    return connection


async def _say_hello(connection: RedisConnection, credentials: Credentials) -> None:
    hello = ["HELLO", "3"]
    if credentials.password:
        hello += ["AUTH", credentials.username or "default", credentials.password]
    try:
        await connection.execute(*hello, "SETNAME", credentials.client_name)
    except RedisLost:
        raise
    except RedisError as error:
        if "unknown command" in str(error).lower() or "NOPROTO" in str(error):
            raise RedisError(f"{connection} does not speak RESP3: version 6.0 or newer is needed") from error
        raise
