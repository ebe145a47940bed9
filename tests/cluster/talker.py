"""Guests who talk without a pause, and come back when they are cut off. They know the wire protocol only."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Final
from uuid import uuid4

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.visitor import Door, Visitor

EVERY_SECONDS: Final = 0.1
ROOM: Final = "lobby"
LEAVING: Final = 1012
SILENCE_SECONDS: Final = 5.0
"""In a room where everybody talks, this is a dead connection: not every end is told to the other side."""


@dataclass
class Said:
    """One message: when it was handed to the connection, and when the node said that it had it."""

    number: int
    asked: float
    answered: float | None = None
    reached_bus: bool = False


@dataclass(frozen=True)
class Heard:
    """One message as it came in."""

    sender: str
    number: int
    at: float


@dataclass
class Stay:
    """One connection, from the moment at which it was in the room until its end."""

    node: str
    joined: float
    left: float | None = None
    """Without a close frame: when the last frame came."""
    code: int | None = None
    bus: list[tuple[float, bool]] = field(default_factory=list)
    """When the node said that it hears the others, and when that it does not."""
    said: list[Said] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    def was_deaf(self, start: float, end: float) -> bool:
        """Whether its node did not hear the others at some moment in between."""
        untils = [at for at, _ in self.bus[1:]] + [float("inf")]
        return any(
            not hears and at < end and until > start
            for (at, hears), until in zip(self.bus, untils, strict=False)
        )


class Talker:
    """One guest, for the length of a `with` block."""

    def __init__(self, name: str, door: Door) -> None:
        self.name = name
        self.stays: list[Stay] = []
        self.refusals: list[str] = []
        """Why connects were in vain while it was away."""
        self.trouble: BaseException | None = None
        self._visitor = Visitor(door)
        self._ends = Event()
        self._thread = Thread(target=self._live, name=name, daemon=True)

    def __enter__(self) -> "Talker":
        self._visitor.enter_as_guest(self.name)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def node(self) -> str:
        """Where it is now; empty while it is away."""
        return self.stays[-1].node if self.stays and self.stays[-1].left is None else ""

    def away(self) -> list[float]:
        """Seconds between one connection and the next, for each time that it lost one."""
        pairs = zip(self.stays, self.stays[1:], strict=False)
        return [after.joined - before.left for before, after in pairs if before.left is not None]

    def said(self) -> Iterator[Said]:
        for stay in self.stays:
            yield from stay.said

    def _live(self) -> None:
        attempt = 0
        try:
            while not self._ends.is_set():
                try:
                    connection = self._visitor.connect(
                        f"/realtime/rooms/{ROOM}/", origin=self._visitor.door.origin, cookie=True
                    )
                except InvalidStatus as refused:
                    self.refusals.append(str(refused.response.status_code))
                except (OSError, EOFError, InvalidHandshake) as error:
                    self.refusals.append(type(error).__name__)
                else:
                    with connection:
                        attempt = 0 if self._stay(connection) == LEAVING else 1
                # The page waits longer, up to 20 s: here the figure is wanted that the deployment allows.
                self._ends.wait(random.uniform(0, 0.1 * min(attempt, 10)))
                attempt += 1
        except BaseException as error:  # the test's thread says it
            self.trouble = error

    def _stay(self, connection: ClientConnection) -> int | None:
        """Until the connection ends; with which code."""
        waiting: dict[int, Said] = {}
        stay = Stay("", time.monotonic())
        try:
            hello = json.loads(connection.recv(30))["data"]
            stay.node = hello["node"]
            stay.bus.append((stay.joined, hello["bus_connected"]))
            last_frame = stay.joined
            while True:
                frame = json.loads(connection.recv(30))
                if frame.get("event") == "chat.room_joined":
                    break
                self._hear(frame, stay, waiting)
            stay.joined = next_word = last_frame = time.monotonic()
            self.stays.append(stay)
            while not self._ends.is_set() and time.monotonic() < last_frame + SILENCE_SECONDS:
                now = time.monotonic()
                if now >= next_word:
                    self._say(connection, stay, waiting)
                    next_word = now + EVERY_SECONDS
                try:
                    frame = json.loads(connection.recv(max(0.0, next_word - now)))
                except TimeoutError:
                    continue
                last_frame = time.monotonic()
                self._hear(frame, stay, waiting)
        except ConnectionClosed as closed:
            stay.code = closed.rcvd.code if closed.rcvd else None
        except TimeoutError:  # of what comes before the room
            return None
        stay.left = last_frame if stay.code is None else time.monotonic()
        return stay.code

    def _say(self, connection: ClientConnection, stay: Stay, waiting: dict[int, Said]) -> None:
        number = sum(len(one.said) for one in self.stays) + 1
        waiting[number] = said = Said(number, time.monotonic())
        stay.said.append(said)
        data = {"room": ROOM, "key": str(uuid4()), "text": f"{self.name} {number}"}
        connection.send(json.dumps({"id": number, "command": "chat.post_message", "data": data}))

    def _hear(self, frame: dict[str, Any], stay: Stay, waiting: dict[int, Said]) -> None:
        now = time.monotonic()
        if "reply" in frame:
            said = waiting.pop(frame["id"])
            said.answered, said.reached_bus = now, frame["reply"]["reached_bus"]
        elif frame.get("event") == "chat.message_posted":
            sender, number = frame["data"]["text"].rsplit(" ", 1)
            stay.heard.append(Heard(sender, int(number), now))
        elif frame.get("event") == "node.bus_changed":
            stay.bus.append((now, frame["data"]["connected"]))
        elif "error" in frame:
            raise AssertionError(f"{self.name} was told {frame['error']}")
