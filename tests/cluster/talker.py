"""Guests who talk without a pause, and come back when they are cut off. They know the wire protocol only."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Final

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection

from app.journal.keys import new_key
from tests.visitor import Door, Visitor

EVERY_SECONDS: Final = 0.1
ROOM: Final = "lobby"
LEAVING: Final = 1012
SILENCE_SECONDS: Final = 5.0
"""In a room where everybody talks, this is a dead connection: not every end is told to the other side."""


@dataclass
class Said:
    """One message: when it was handed to the connection, and when the node said that it is stored."""

    number: int
    asked: float
    answered: float | None = None
    key: str = field(default_factory=lambda: str(new_key()))


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
    said: list[Said] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)


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
            last_frame = stay.joined
            while True:
                frame = json.loads(connection.recv(30))
                if frame.get("event") == "chat.room_joined":
                    break
                self._hear(connection, frame, stay, waiting)
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
                self._hear(connection, frame, stay, waiting)
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
        self._post(connection, said)

    def _post(self, connection: ClientConnection, said: Said) -> None:
        data = {"room": ROOM, "key": said.key, "text": f"{self.name} {said.number}"}
        connection.send(json.dumps({"id": said.number, "command": "chat.post_message", "data": data}))

    def _hear(
        self, connection: ClientConnection, frame: dict[str, Any], stay: Stay, waiting: dict[int, Said]
    ) -> None:
        now = time.monotonic()
        if "reply" in frame:
            waiting.pop(frame["id"]).answered = now
        elif frame.get("event") == "chat.message_posted":
            sender, number = frame["data"]["text"].rsplit(" ", 1)
            stay.heard.append(Heard(sender, int(number), now))
        elif frame.get("error", {}).get("code") in ("busy", "unknown"):
            self._ends.wait(frame["error"].get("retry_after", EVERY_SECONDS))
            self._post(connection, waiting[frame["id"]])
        elif "error" in frame:
            raise AssertionError(f"{self.name} was told {frame['error']}")
