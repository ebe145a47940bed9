"""A client of our own: it speaks docs/protocol.md, comes back to any node, and writes down what it sees.

It never mends what a node does wrong: nothing is deduplicated and nothing sorted before it is written down.
"""

import asyncio
import json
from asyncio import Future, Task
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from app.journal.keys import new_key
from tests.failure.checker.record import POSTED, Answer, Asked
from tests.failure.checker.returning import Address, Returning, end_task

SILENCE_SECONDS: Final = 5.0
"""No frame for so long, though a ping was sent: the connection is given up, as the protocol says."""
PING_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 20.0
"""A node that answers pings and not this command is given up, too."""
IN_FLIGHT: Final = 8
TRY_AGAIN: Final = {"busy", "unknown", "rate_limited", "internal_error", "unavailable"}
PAGE: Final = 100

Take = Callable[[dict[str, Any]], None]
"""Sees a reply before any later frame is looked at."""


class Refused(Exception):
    """The command was answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.retry_after = float(error.get("retry_after") or 0.2)


class Client(Returning):
    """By WebSocket: it is in rooms, writes there, and pages."""

    ends = (OSError, InvalidHandshake, ConnectionClosed, TimeoutError, Refused)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.node = ""
        """Where it is; empty while it is away."""
        self._rooms: set[str] = set()
        self._unsent: dict[str, tuple[Asked, dict[str, Any]]] = {}
        self._in_flight: set[str] = set()
        self._more = asyncio.Event()
        self._connection: ClientConnection | None = None
        self._waiting: dict[int, tuple[Future[dict[str, Any]], Take]] = {}
        self._last_id = 0
        self._tasks: set[Task[None]] = set()

    # --- What it is asked to do --------------------------------------------------------------------------

    def enter(self, *rooms: str) -> None:
        """Be in these rooms from now on, also after each reconnect."""
        self._rooms.update(rooms)
        self._more.set()

    def write(self, room: str, command: str, kind: str, **data: Any) -> Asked:
        """Ask for something that is stored; it is asked for again and again until there is an answer."""
        key = str(new_key())
        asked = Asked(
            f"room.{room}",
            kind,
            key,
            self.person,
            self.name,
            self._clock(),
            data.get("text", ""),
            data.get("message_id", data.get("person", "")),
        )
        self.account.asked.append(asked)
        self._unsent[key] = (asked, {"command": command, "data": {"room": room, "key": key, **data}})
        self._more.set()
        return asked

    def post(self, room: str, text: str) -> Asked:
        return self.write(room, "chat.post_message", POSTED, text=text)

    @property
    def unsent(self) -> int:
        """How many commands have no final answer yet."""
        return len(self._unsent)

    @property
    def rooms(self) -> list[str]:
        """Where it means to be, and is not shut out."""
        return [room for room in sorted(self._rooms) if f"room.{room}" not in self.account.shut_out]

    @property
    def is_in_all(self) -> bool:
        """Whether it is in all of them, and has read back to their beginning."""
        return all(self.view.is_complete(f"room.{room}") for room in self.rooms)

    def is_at(self, last: dict[str, tuple[int, int]]) -> bool:
        """Whether it has seen all up to these (epoch, sequence) in all of them."""
        return self.is_in_all and all(
            self.view.is_at(f"room.{room}", *last[f"room.{room}"]) for room in self.rooms
        )

    def cut(self) -> None:
        """Lose the connection without a word."""
        if self._connection is not None:
            self._connection.transport.abort()

    # --- Its life ----------------------------------------------------------------------------------------

    async def _visit(self, address: Address) -> None:
        host, port = address
        async with connect(
            f"ws://{host}:{port}/realtime/",
            origin=f"http://{host}:{port}",  # type: ignore[arg-type]  # a NewType of str
            subprotocols=["carillon.v1"],  # type: ignore[list-item]
            additional_headers={"Cookie": self._cookie},
            compression=None,
            proxy=None,
            open_timeout=SILENCE_SECONDS,
            ping_interval=None,
            close_timeout=0.5,
            max_queue=None,
        ) as connection:
            async with asyncio.timeout(SILENCE_SECONDS):
                hello = json.loads(await connection.recv())
            self.node = hello["data"]["node"]
            self._connection = connection
            self._in_flight.clear()
            tasks = [
                asyncio.create_task(work)
                for work in (self._read(connection), self._keep_alive(), self._stay_in_rooms(), self._send())
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._connection = None
                self.node = ""
                await _end(connection, [*tasks, *self._tasks])
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def _read(self, connection: ClientConnection) -> None:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                text = await connection.recv()
            frame = json.loads(text)
            if "event" in frame:
                self._take(frame)
            else:
                answered, take = self._waiting[frame["id"]]
                if not answered.done():
                    answered.set_result(frame)
                    if "reply" in frame:
                        take(frame["reply"])

    def _take(self, frame: dict[str, Any]) -> None:
        if "stream" in frame:
            self.view.take(frame)
        elif frame["event"] == "stream.reset":
            self.view.end(frame["data"]["stream"], f"reset: {frame['data']['reason']}")
            self._more.set()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            await self._command("ping", {"seen": self.view.positions()})

    async def _stay_in_rooms(self) -> None:
        """Resume what was left, join what is new, join again what was reset."""
        while True:
            self._more.clear()
            wanted = [room for room in self.rooms if not self.view.is_in(f"room.{room}")]
            left = {room: position for room in wanted if (position := self.view.left_at(f"room.{room}"))}
            if left:
                await self._resume(left)
            for room in wanted:
                if room not in left:
                    await self._join(room)
            await self._more.wait()

    async def _resume(self, left: dict[str, tuple[int, int]]) -> None:
        rooms = [
            {"room": room, "epoch": epoch, "sequence": sequence} for room, (epoch, sequence) in left.items()
        ]

        def take(reply: dict[str, Any]) -> None:
            for one in reply["rooms"]:
                stream = f"room.{one['room']}"
                if "error" in one:
                    self._refused(stream, one["error"])
                elif one["resumed"]:
                    self.view.begin(stream, self.node, *left[one["room"]])
                else:
                    self.view.forget(stream, f"reset: {one['reset']}")
                    self._more.set()

        await self._command("chat.resume", {"rooms": rooms}, take)

    async def _join(self, room: str) -> None:
        stream = f"room.{room}"

        def take(reply: dict[str, Any]) -> None:
            position = reply["position"]
            self.view.begin(stream, self.node, position["epoch"], position["sequence"])
            self.view.page(stream, reply["messages"])
            if reply["earlier"] and reply["messages"]:
                self._go(self._page_back(room, reply["messages"][0]["sequence"]))
            else:
                self.view.complete.add(stream)

        self.view.forget(stream, "")
        try:
            await self._command("chat.join_room", {"room": room}, take)
        except Refused as refused:
            self._refused(stream, {"code": refused.code, "message": str(refused)})

    async def _page_back(self, room: str, before: int) -> None:
        """Everything that was said before: who was away for too long pages back, and so does this client."""
        stream = f"room.{room}"
        life = self.view.life(stream)
        earlier = True
        while earlier:
            try:
                reply = await self._command("chat.history", {"room": room, "before": before, "limit": PAGE})
            except Refused as refused:
                if refused.code not in TRY_AGAIN:
                    return
                await asyncio.sleep(refused.retry_after)
                continue
            if self.view.life(stream) != life:
                return  # another snapshot came meanwhile, and it pages for itself
            self.view.page(stream, reply["messages"])
            earlier = reply["earlier"] and bool(reply["messages"])
            before = min((one["sequence"] for one in reply["messages"]), default=0)
        self.view.complete.add(stream)

    def _refused(self, stream: str, error: dict[str, Any]) -> None:
        """Shut out for good, or to be tried again in a moment."""
        self.account.errors.append((self._clock(), f"{stream}: {error['code']}"))
        if error["code"] in ("not_allowed", "not_found"):
            self.account.shut_out.add(stream)
        else:
            self._later(float(error.get("retry_after") or 0.2))

    # --- Commands ----------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Everything that has no answer yet, oldest first: also what an earlier connection did not answer."""
        while True:
            for key in list(self._unsent):
                if len(self._in_flight) < IN_FLIGHT and key in self._unsent and key not in self._in_flight:
                    self._in_flight.add(key)
                    self._go(self._ask(key))
            await asyncio.sleep(0.01)

    async def _ask(self, key: str) -> None:
        asked, words = self._unsent[key]
        try:
            reply = await self._command(words["command"], words["data"])
        except Refused as refused:
            asked.answers.append(Answer(self._clock(), self.node, error=refused.code))
            if refused.code in TRY_AGAIN:
                self.account.errors.append((self._clock(), refused.code))
                await asyncio.sleep(refused.retry_after)
            else:
                self._unsent.pop(key, None)
        else:
            asked.answers.append(Answer(self._clock(), self.node, reply["epoch"], reply["sequence"]))
            self._unsent.pop(key, None)
        self._in_flight.discard(key)

    def ask_again(self, asked: Asked) -> None:
        """As somebody who clicks twice: the same command, with the same key."""
        room = asked.stream.removeprefix("room.")
        data = {"room": room, "key": asked.key, "text": asked.text}
        self._unsent.setdefault(asked.key, (asked, {"command": "chat.post_message", "data": data}))

    async def _command(self, name: str, data: dict[str, Any], take: Take = lambda _: None) -> dict[str, Any]:
        """The reply. Raises `Refused`."""
        connection = self._connection
        if connection is None:
            raise TimeoutError("not connected")
        self._last_id += 1
        number = self._last_id
        answered: Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered, take
        try:
            await connection.send(json.dumps({"id": number, "command": name, "data": data}))
            async with asyncio.timeout(ANSWER_SECONDS):
                frame = await answered
        finally:
            self._waiting.pop(number, None)
        if "error" in frame:
            raise Refused(frame["error"])
        reply: dict[str, Any] = frame["reply"]
        return reply

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that ends with the connection."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, (ConnectionClosed, TimeoutError)):
            self.cut()
        elif error is not None:
            self.trouble = error

    def _later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._more.set)


async def _end(connection: ClientConnection, tasks: list[Task[None]]) -> None:
    await asyncio.gather(*[end_task(task) for task in tasks])
    with suppress(OSError):
        connection.transport.abort()
