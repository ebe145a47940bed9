"""The door for features: a consumer that takes typed commands and gets events without a task of its own.

On the fast path (`app.serving`) an idle connection has no task, timer or channel: input arrives by call,
output is written by the hub. On any other ASGI server the same consumer runs over a bounded mailbox.
"""

import asyncio
import logging
from asyncio import Future, Task
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache, partial
from random import random
from typing import Any, ClassVar, Final, Protocol

import msgspec
from django.conf import settings

from app.observability import metrics
from app.realtime import close_codes, protocol
from app.realtime.connection import RELEASABLE, Connection, Receiver, Released
from app.realtime.event import Event, encode_event, encode_frame
from app.realtime.handlers import Handler, Later, Reply, command, handler_of
from app.realtime.identity import Identity
from app.realtime.mailbox_connection import MailboxConnection, Receive, Send
from app.realtime.node import EVERYONE, Node, current_node
from app.realtime.people import FLOOD_SECONDS
from app.realtime.protocol import Command, CommandError, InvalidFrame, Ping
from app.realtime.rate_limit import TokenBucket

logger = logging.getLogger(__name__)

DIRECT_EXTENSION: Final = "carillon.direct"
"""The ASGI extension that offers direct writes; its value is an `Upgrade`."""

COUNTED_EXTENSION: Final = "carillon.counted"
"""Set in a scope whose server counts its connections itself."""

COMMANDS_WAITING: Final = 16
"""So many commands may wait behind one that runs; then the node stops reading this connection."""

metrics.appear(metrics.commands, ["ok", *protocol.ERROR_CODES])
_carried_out: Final = metrics.commands.labels("ok")

Scope = dict[str, Any]
OnAccept = list[Callable[[Connection], object]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Upgrade(Protocol):
    """An upgrade request that can be answered with a direct connection."""

    def accept(self, receiver: Receiver, subprotocol: str | None, hello: bytes) -> Connection:
        """Answer 101, with the first frame in the same write, and hand the connection over."""


class NoData(msgspec.Struct, forbid_unknown_fields=True):
    """The data of a command that has none."""


class RealtimeConsumer:
    """One connection's consumer. Subclasses add `@command` methods, `connected` and `disconnected`."""

    _handlers: ClassVar[dict[str, Handler]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = {
            function.command_name: handler_of(function)
            for owner in reversed(cls.__mro__)
            for function in vars(owner).values()
            if hasattr(function, "command_name")
        }

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Application:
        """An ASGI application that makes one consumer per connection, for `URLRouter`."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await cls(**initkwargs)._open(scope, receive, send)

        return application

    connection: Connection
    connection_id: str
    """What hello tells the client, and what log lines about this connection name."""
    identity: Identity
    node: Node
    url_kwargs: dict[str, Any]

    def __init__(self) -> None:
        self._groups: set[str] | None = None
        self._bucket: TokenBucket | None = None
        self._waiting: deque[Command] | None = None
        self._task: Task[None] | None = None
        self._later: Future[Any] | None = None
        self._invalid_frames = 0
        self._lost = False

    # What features use and override ----------------------------------------------------------------------

    async def connected(self) -> None:
        """The connection is open and hello is sent. Commands wait until this returns."""

    def disconnected(self, code: int) -> None:
        """The connection is gone and its groups are left. Called exactly once, on every way out."""

    def subscribe(self, group: str) -> "Future[None]":
        """Get `group`'s events from here on. Done when other nodes' events arrive too, or the bus is down."""
        if self._lost:  # a handler that went on after its connection had gone must leave nothing behind
            raise asyncio.CancelledError
        if self._groups is None:
            self._groups = set()
        if group not in self._groups:
            self._groups.add(group)
            metrics.subscriptions.inc()
        return self.node.subscribe(group, self.connection)

    def unsubscribe(self, group: str) -> None:
        """Get no more of `group`'s events."""
        if self._groups and group in self._groups:
            self._groups.remove(group)
            metrics.subscriptions.dec()
            self.node.unsubscribe(group, self.connection)

    def send(self, event: Event) -> None:
        """Send `event` to this connection alone."""
        self.connection.send(encode_event(event).payload)

    def close(self, code: int) -> None:
        """End this connection politely."""
        self.connection.close(code)

    @command("ping")
    def ping(self, data: Ping) -> None:
        """The client asks whether anybody is there: the reply is the answer. What it has seen of streams is
        for consumers that follow some."""

    # Opening ---------------------------------------------------------------------------------------------

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.identity = scope["identity"]
        self.url_kwargs = scope["url_route"]["kwargs"] if "url_route" in scope else {}
        self.node = current_node()
        self.connection_id = self.node.next_connection_id()
        offered = protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in scope["subprotocols"] else None
        # Taken, so that nobody else calls them for a consumer that does not know them.
        on_accept = [*scope.get("on_accept", ())]
        scope.get("on_accept", []).clear()
        upgrade: Upgrade | None = scope.get("extensions", {}).get(DIRECT_EXTENSION)
        if upgrade is None:
            await self._serve_mailbox(scope, receive, send, offered, on_accept)
            return
        self.connection = upgrade.accept(self, offered, self._hello())
        self._opened(on_accept)
        if type(self).connected is not RealtimeConsumer.connected:
            self._task = asyncio.current_task()
            await self._run_connected()

    def _hello(self) -> bytes:
        return encode_frame(
            {
                "event": "hello",
                "data": {
                    "protocol": protocol.VERSION,
                    "node": self.node.name,
                    "connection": self.connection_id,
                    "time": datetime.now(UTC),
                    "bus_connected": self.node.broker.connected,
                    "user": self.identity,
                    "limits": _limits(),
                },
            }
        )

    def _opened(self, on_accept: OnAccept) -> None:
        self.node.people.came(self.identity.id)
        self.node.hub.subscribe(EVERYONE, self.connection)
        for callback in on_accept:
            callback(self.connection)

    async def _run_connected(self) -> None:
        try:
            await self.connected()
        except (Exception, asyncio.CancelledError):
            if _is_cancelled():
                raise
            self._log_failure("%s.connected failed", type(self).__name__)
            self.connection.close(close_codes.CONSUMER_FAILED)
        else:
            self._task = None
            self._run_waiting()

    # Commands --------------------------------------------------------------------------------------------

    def frame_received(self, text: bytes) -> None:
        """One text message from the client: a command, or an error in answer."""
        try:
            received = protocol.decode_command(text)
        except InvalidFrame as error:
            self._refuse(error.command_id, error)
            self._invalid_frames += 1
            if self._invalid_frames > protocol.INVALID_FRAMES_ALLOWED:
                self.connection.close(close_codes.TOO_MANY_INVALID_FRAMES)
            return
        if self._bucket is None:
            self._bucket = self.node.people.bucket_for(self.identity.id)
        wait = self._bucket.take()
        if wait:
            self._too_fast(received.id, wait)
        elif self._task is None and self._later is None:
            self._run(received)
        else:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(received)
            if len(self._waiting) == COMMANDS_WAITING:
                self.connection.pause_reading()

    def _too_fast(self, command_id: int, wait: float) -> None:
        self._refuse(command_id, CommandError("rate_limited", "too many commands", retry_after=wait))
        if not self.node.people.refused(self.identity.id):
            self.send(Released(FLOOD_SECONDS * (1 + random())))  # noqa: S311  # it spreads clients
            self.close(close_codes.FLOODED)

    def _run(self, received: Command) -> None:
        try:
            handler = self._handlers.get(received.command)
            if handler is None:
                raise CommandError("unknown_command", f"no command {received.command!r}")
            try:
                data = handler.decoder.decode(received.data)
            except (msgspec.DecodeError, RecursionError) as error:
                raise protocol.invalid_data(received, error) from error
            if handler.waits:
                self._task = asyncio.get_running_loop().create_task(
                    self._run_waiting_handler(received.id, handler, data)
                )
                return
            self._answer(received.id, handler.function(self, data))
        except CommandError as error:
            self._refuse(received.id, error)
        except Exception:
            self._failed(received.id, received.command)

    async def _run_waiting_handler(self, command_id: int, handler: Handler, data: Any) -> None:
        try:
            self._answer(command_id, await handler.function(self, data))
        except CommandError as error:
            self._refuse(command_id, error)
        except (Exception, asyncio.CancelledError):
            if _is_cancelled():
                raise
            self._failed(command_id, handler.function.__qualname__)
        finally:
            self._task = None
        self._run_waiting()

    def _run_waiting(self) -> None:
        """Go on with what arrived meanwhile, in order; behind a close nothing is wanted."""
        while self._waiting and self._task is self._later is None and not self.connection.closing:
            self._run(self._waiting.popleft())
            if len(self._waiting) == COMMANDS_WAITING - 1:
                self.connection.resume_reading()

    def _answer(self, command_id: int, result: Any) -> None:
        kind = type(result)
        if kind is Later:
            self._later = result.future
            result.future.add_done_callback(partial(self._answer_later, command_id, result.reply))
            return
        reply = protocol.encode_reply(command_id, result.data if kind is Reply else result)
        _carried_out.inc()
        self.connection.send(reply)
        if kind is Reply:
            self._do_behind(result.then)

    def _answer_later(
        self, command_id: int, reply: "Callable[[Future[Any]], Any]", future: "Future[Any]"
    ) -> None:
        self._later = None
        if self._lost:
            _ = future.cancelled() or future.exception()  # it was looked at: nobody need be warned
            return
        try:
            self._answer(command_id, reply(future))
        except CommandError as error:
            self._refuse(command_id, error)
        except (Exception, asyncio.CancelledError):  # the latter: somebody else cancelled the future
            self._failed(command_id, getattr(reply, "__qualname__", "a reply"))
        self._run_waiting()

    def _do_behind(self, then: Callable[[], object]) -> None:
        """The reply is out: whoever fails to do what it says comes back and starts over."""
        try:
            then()
        except Exception:
            self._log_failure("%s failed behind its reply", type(self).__name__)
            self.connection.close(close_codes.CONSUMER_FAILED)

    def _refuse(self, command_id: int | None, error: CommandError) -> None:
        metrics.commands.labels(error.code).inc()
        self.connection.send(protocol.encode_error(command_id, error))

    def _failed(self, command_id: int, what: str) -> None:
        self._log_failure("%s failed", what)
        self._refuse(command_id, CommandError("internal_error", protocol.ERROR_CODES["internal_error"]))

    def _log_failure(self, text: str, what: str) -> None:
        """In an `except`: the traceback, and whose connection it was."""
        logger.exception(text, what, extra={"connection": self.connection_id})

    # Closing ---------------------------------------------------------------------------------------------

    def connection_lost(self, code: int) -> None:
        """The direct connection is gone."""
        self._leave_everything(code)
        metrics.connections_closed.labels(close_codes.label(code)).inc()

    def _leave_everything(self, code: int) -> None:
        """Leave nothing behind, whatever the way out was."""
        self._lost = True
        if self._task is not None:
            self._task.cancel()
        if self.node.hub.is_member(EVERYONE, self.connection):
            self.node.hub.unsubscribe(EVERYONE, self.connection)
            self.node.people.went(self.identity.id)
        groups, self._groups = self._groups or (), None
        for group in groups:
            self.node.unsubscribe(group, self.connection)
        metrics.subscriptions.dec(len(groups))
        try:
            self.disconnected(code)
        except (Exception, asyncio.CancelledError):  # the latter from a `subscribe` there
            self._log_failure("%s.disconnected failed", type(self).__name__)

    # Any other ASGI server -------------------------------------------------------------------------------

    async def _serve_mailbox(
        self, scope: Scope, receive: Receive, send: Send, subprotocol: str | None, on_accept: OnAccept
    ) -> None:
        await receive()  # websocket.connect
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        connection = self.connection = MailboxConnection(send, settings.UNSENT_LIMIT_BYTES)
        scope.setdefault("state", {})[RELEASABLE] = connection
        counted = COUNTED_EXTENSION in scope.get("extensions", {})
        if not counted:
            metrics.connections_opened.labels("mailbox").inc()
            metrics.connections.labels("mailbox").inc()
        try:
            connection.send(self._hello())
            self._opened(on_accept)
            if type(self).connected is not RealtimeConsumer.connected:
                self._task = asyncio.get_running_loop().create_task(self._run_connected())
            await connection.read(receive, self, settings.FRAME_LIMIT_BYTES)
        except asyncio.CancelledError:
            if not connection.closing:
                raise
        finally:
            self._leave_everything(connection.close_code)
            if not counted:
                metrics.connections.labels("mailbox").dec()
                metrics.connections_closed.labels(close_codes.label(connection.close_code)).inc()
            await connection.stop()


def _is_cancelled() -> bool:
    """Whether the running task itself is to end; else what it waited for was cancelled, by somebody else."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@cache
def _limits() -> msgspec.Raw:
    """What hello says a client may do: the same bytes for every connection."""
    return msgspec.Raw(
        encode_frame(
            {
                "frame_bytes": settings.FRAME_LIMIT_BYTES,
                "commands_per_second": settings.COMMANDS_PER_SECOND,
                "commands_burst": settings.COMMANDS_BURST,
                "rooms": settings.ROOMS_PER_CONNECTION,
                "ping_seconds": settings.PING_SECONDS,
            }
        )
    )
