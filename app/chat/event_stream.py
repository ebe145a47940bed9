"""One room as server-sent events, for who only listens: the same stream, positions and rights as over a
WebSocket, one way. It stands beside Django: a listener costs no thread and no database connection.
"""

import asyncio
import re
from asyncio import Future, Task
from collections.abc import Awaitable, Callable, MutableMapping
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from django.conf import settings

from app.chat.connected_rooms import ConnectedRooms
from app.chat.events import RoomJoined
from app.chat.room_reads import RETRY_SECONDS
from app.observability import metrics
from app.realtime import close_codes
from app.realtime.connection import RELEASABLE, Batch
from app.realtime.event import Delivery
from app.realtime.mailbox_connection import MailboxConnection
from app.realtime.node import current_node
from app.realtime.protocol import CommandError, encode_refusal
from app.realtime.stream import Position
from app.realtime.stream_audience import Ended

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

QUIET_SECONDS: Final = 15.0
"""After so long without an event a line shows that somebody is there; proxies cut off what says nothing."""

STATUS: Final = {"not_found": 404, "not_allowed": 403}
"""Of an error code; 503 for any other."""

POSITION: Final = re.compile(r"([0-9]{1,16})-([0-9]{1,16})")


class _Placed(msgspec.Struct):
    sequence: int


class ListeningConnection(MailboxConnection):
    """Writes chunks of an HTTP response where its parent writes frames. `epoch` is the stream's."""

    def __init__(self, send: Send, unsent_limit: int) -> None:
        self.epoch = 0

        async def as_body(message: dict[str, Any]) -> None:
            text = message.get("text", "")
            more = message["type"] == "websocket.send"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        super().__init__(as_body, unsent_limit)

    def deliver(self, batch: Batch) -> bool:
        """The room's durable events; who is present, nobody learns here."""
        for event in batch.events:
            if event.delivery is Delivery.DURABLE and event.payload.startswith(b'{"stream":'):
                place = msgspec.json.decode(event.payload, type=_Placed)
                self.send(_chunk(event.payload, Position(self.epoch, place.sequence)))
        return not self.closing

    def release(self, retry_after: float) -> None:
        """A browser takes `retry` for this and every later return: a second at least."""
        self.send(b"retry: %d\n\n" % (1000 + 1000 * retry_after))
        self.close(close_codes.DRAIN)

    @property
    def sender(self) -> "Task[None]":
        """Done when everything was written and the response has ended, or nobody reads any more."""
        return self._sender


async def event_stream(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application for `GET /rooms/<slug>/events/`; `scope["identity"]` says who it is."""
    if scope["method"] != "GET":
        await _answer(send, 405, CommandError("invalid_data", "expected GET"))
        return
    try:
        after = _position(scope)
    except ValueError as error:
        await _answer(send, 400, CommandError("invalid_data", str(error)))
        return
    listener = _Listener(scope, receive, send)
    people, person = current_node().people, scope["identity"].id
    people.came(person)
    metrics.connections.labels("events").inc()
    try:
        await listener.serve(after)
    except asyncio.CancelledError:
        if not listener.connection.closing:  # else it was cut off: it read too slowly
            raise
    finally:
        metrics.connections.labels("events").dec()
        people.went(person)
        await listener.stop()


class _Listener:
    """One response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.connection = ListeningConnection(send, settings.UNSENT_LIMIT_BYTES)
        self._scope = scope
        self._send = send
        self._slug: str = scope["url_route"]["kwargs"]["slug"]
        self._ended: Future[Ended] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.create_task(_until_gone(receive))
        self._rooms = ConnectedRooms(
            current_node(),
            self.connection,
            scope["identity"],
            seen=False,
            on_ended=self._end,
        )

    async def serve(self, after: Position | None) -> None:
        """Until nobody listens, or nobody may."""
        try:
            joined = await self._rooms.join(self._slug, after)
        except CommandError as error:
            await _answer(self._send, STATUS.get(error.code, 503), error)
            return
        await self._send({"type": "http.response.start", "status": 200, "headers": _headers(self._scope)})
        self._scope.setdefault("state", {})[RELEASABLE] = self.connection
        for callback in self._scope.get("on_accept", ()):
            callback(self.connection)
        while True:
            _begin(self.connection, joined.data)
            joined.then()
            ended = await self._until_ended()
            if ended is None:
                return
            if ended.reset is None:
                break
            self._ended = asyncio.get_running_loop().create_future()
            try:
                joined = await self._rooms.join(self._slug, None)
            except CommandError:
                break
            joined.data.reset = ended.reset
        self.connection.close(close_codes.GOING_AWAY)
        await asyncio.wait({self.connection.sender, self._gone}, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Leave nothing behind."""
        self._rooms.leave_all()
        self._gone.cancel()
        await self.connection.stop()

    def _end(self, ended: Ended) -> None:
        self._ended.set_result(ended)

    async def _until_ended(self) -> Ended | None:
        """Why the room is left from the server's side; None: nobody reads any more."""
        waits: set[Future[Any]] = {self._ended, self._gone, self.connection.sender}
        while True:
            done, _ = await asyncio.wait(waits, timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._ended in done:
                return self._ended.result()
            if done:
                return None
            self.connection.send(b":\n\n")


def _begin(connection: ListeningConnection, joined: RoomJoined) -> None:
    """The snapshot that the events follow, or a sign of life."""
    connection.epoch = joined.position.epoch
    if joined.resumed:
        connection.send(b":\n\n")
    else:
        name = b"snapshot" if joined.reset is None else b"reset"
        chunk = _chunk(msgspec.json.encode(joined), joined.position)
        connection.send(b"event: %b\n%b" % (name, chunk))


def _chunk(data: bytes, position: Position) -> bytes:
    return b"id: %d-%d\ndata: %b\n\n" % (position.epoch, position.sequence, data)


def _position(scope: Scope) -> Position | None:
    """Where the client was. Raises `ValueError`."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    headers = [
        value.decode("latin-1").strip(" \t") for name, value in scope["headers"] if name == b"last-event-id"
    ]
    # An empty one is sent where `id:` was reset, and says as much as none.
    asked = [*filter(None, headers)] or query.get("after")
    if not asked:
        return None
    match = POSITION.fullmatch(asked[-1])
    if match is None:
        raise ValueError("expected <epoch>-<sequence> as the position")
    return Position(int(match[1]), int(match[2]))


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    return [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-accel-buffering", b"no"),
        (b"vary", b"Origin"),
        *((b"access-control-allow-origin", origin) for origin in origins),
        *((b"access-control-allow-credentials", b"true") for _ in origins),
    ]


async def _answer(send: Send, status: int, error: CommandError) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if status == 503:
        headers.append((b"retry-after", b"%d" % ceil(error.retry_after or RETRY_SECONDS)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    body = encode_refusal(error.code, error.message, error.retry_after)
    await send({"type": "http.response.body", "body": body})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
