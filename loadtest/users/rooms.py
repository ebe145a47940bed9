"""Who talks in a room: joins it, says something now and then, and hears everybody else there."""

import secrets
import time
import uuid
from typing import Any, ClassVar

import gevent
from locust import task

from loadtest.connection import Connection, Data
from loadtest.proof.account import Line, Listener, Said, digest
from loadtest.users.person import Person
from loadtest.visitor import Door, Visitor

KIND = "message"
AWAY_SECONDS = 0.2
"""Between two tries."""
ROOMS = 3


def room(number: int) -> str:
    """The slug of one of a load test's rooms. They stay: a run goes on where another one ended."""
    return f"load-{number}"


def open_rooms(door: Door, count: int = ROOMS) -> None:
    """Have so many of them there, before anybody joins."""
    opener = Visitor(door)
    opener.enter("load-opener")
    for number in range(1, count + 1):
        opener.open_room(room(number), f"Load test {number}")


class RoomUser(Person):
    """In one of the first `rooms` rooms."""

    abstract = True
    rooms: ClassVar[int] = ROOMS

    def on_stop(self) -> None:
        self.leave()
        super().on_stop()

    def leave(self) -> None:
        """Nothing more is expected to come: what is on its way may or may not."""
        if self._listener is not None:
            self._listener.until = self._listener.last()

    def on_start(self) -> None:
        self._listener: Listener | None = None
        self._been_here = False
        super().on_start()

    @property
    def stream(self) -> str:
        return f"room.{self.room}"

    @property
    def room(self) -> str:
        return room(self.number % self.rooms + 1)

    def arrived(self, connection: Connection) -> None:
        listener = self._listener
        if listener is None:
            self._join(connection)
        else:
            self._join(connection, position={"epoch": listener.epoch, "sequence": listener.last()})

    def _join(self, connection: Connection, **position: Any) -> None:
        """Ask until it is answered: a node that is about to leave may be too busy for it."""
        while self.connection is connection:
            if self.command("chat.join_room", room=self.room, **position) is not None:
                return
            gevent.sleep(AWAY_SECONDS)

    def take(self, connection: Connection, message: Data, size: int) -> None:
        reply = message.get("reply")
        if reply is not None:
            if "position" in reply:
                self._joined(connection, reply)
        elif message["event"] == "stream.reset":
            self.conductor.spawn(self._join, connection)
        elif message.get("stream") == self.stream and self._listener is not None:
            data = message["data"]
            self.account.hear(self._listener, "", message["sequence"], data.get("text", ""))
            if message["event"] == "chat.message_posted" and data["sender"]["name"] != self.name:
                self.note_heard(KIND, data["message_id"], size)

    def _joined(self, connection: Connection, reply: Data) -> None:
        position, listener = reply["position"], self._listener
        if listener is not None and reply["resumed"]:
            listener.node = connection.node
            return
        if listener is None:
            if not self._been_here:
                self._been_here = True
                self.joined()
        else:
            listener.until = listener.last()
            self.account.counts["resets"] += 1
        self._listener = Listener(
            self.name, connection.node, KIND, self.stream, position["epoch"], position["sequence"]
        )
        self.account.listeners.append(self._listener)

    @task  # type: ignore[untyped-decorator]
    def post(self) -> None:
        """Say something, and say it again with the same key until somebody says where it is stored."""
        if not self.talks:
            self.ping()
            return
        if not self.conductor.begun.is_set() or self.conductor.quiet.is_set() or self._listener is None:
            return
        key, text = new_key(), f"{self.name} {secrets.token_hex(8)}"
        reply = None
        while reply is None and not self.conductor.quiet.is_set():
            connection = self.connection
            if connection is None:
                gevent.sleep(AWAY_SECONDS)
                continue
            self.note_said(key, connection.node)
            reply = self.command("chat.post_message", room=self.room, key=key, text=text)
            if reply is not None:
                line = Line(KIND, self.stream, reply["epoch"], "")
                self.account.say(Said(line, reply["sequence"], digest(text), self.name, connection.node))

    def ping(self) -> None:
        """Say that one is there, and what came."""
        if self._listener is not None:
            self.command("ping", seen={self.stream: self._listener.last()})


class Passer(RoomUser):
    """Leaves the room, and comes again."""

    abstract = True
    talks = False

    @task  # type: ignore[untyped-decorator]
    def come_and_go(self) -> None:
        """Whoever is out of the room is expected to hear nothing of it."""
        connection = self.connection
        if connection is not None and self._listener is not None and not self.conductor.quiet.is_set():
            self.leave()
            self.command("chat.leave_room", room=self.room)
            self._listener = None
            self.arrived(connection)


def new_key() -> str:
    """A UUIDv7: the time in milliseconds, then chance."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return str(uuid.UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62))
