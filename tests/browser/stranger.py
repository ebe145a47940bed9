"""Somebody who speaks the wire protocol to a node: says much in a short time, and tells what is stored."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self

from websockets.sync.client import ClientConnection

from app.journal.keys import new_key
from tests.person import Person, Shown
from tests.visitor import Door, Visitor

PASSING = {"rate_limited", "busy"}
AT_ONCE = 5


class Stranger:
    """One connection; commands are answered one by one. Events are not heard."""

    def __init__(self, connection: ClientConnection, room: str) -> None:
        self._connection = connection
        self._room = room
        self._last_id = 0
        self.id: str = json.loads(connection.recv())["data"]["user"]["id"]

    @classmethod
    @contextmanager
    def guest(cls, name: str, port: int, room: str) -> Iterator[Self]:
        visitor = _visitor(port)
        visitor.enter_as_guest(name)
        with visitor.connect(origin=None, ticket=visitor.ticket()) as connection:
            yield cls(connection, room)

    @classmethod
    @contextmanager
    def like(cls, person: Person, port: int, room: str) -> Iterator[Self]:
        """With the rights of whom the browser belongs to."""
        visitor = _visitor(port)
        visitor.cookies |= {cookie["name"]: cookie["value"] for cookie in person.context.cookies()}
        with visitor.connect(origin=None, ticket=visitor.ticket()) as connection:
            yield cls(connection, room)

    def say(self, text: str) -> str:
        """The id of the message."""
        message_id: str = self.write("chat.post_message", text=text)["message_id"]
        return message_id

    def write(self, command: str, **data: Any) -> dict[str, Any]:
        """A command that changes the room."""
        return self.command(command, room=self._room, key=str(new_key()), **data)

    def command(self, command: str, **data: Any) -> dict[str, Any]:
        """The reply; who is told to come back later does. Anything else than a reply is a failure."""
        while True:
            self._last_id += 1
            self._connection.send(json.dumps({"id": self._last_id, "command": command, "data": data}))
            answer = self._answer()
            if "reply" in answer:
                reply: dict[str, Any] = answer["reply"]
                return reply
            error = answer["error"]
            assert error["code"] in PASSING, error
            time.sleep(error["retry_after"])

    def stored(self) -> list[Shown]:
        """All messages of the room as the node has them, oldest first."""
        pages: list[dict[str, Any]] = []
        earlier, before = True, 2**53 - 1
        while earlier:
            page = self.command("chat.history", room=self._room, before=before, limit=100)
            pages[:0] = page["messages"]
            earlier = page["earlier"]
            before = pages[0]["sequence"] if pages else 0
        return [
            Shown(
                message["message_id"],
                message["sender"]["id"],
                "" if message["deleted"] else message["text"],
                message["edited_at"] is not None and not message["deleted"],
                message["deleted"],
            )
            for message in pages
        ]

    def _answer(self) -> dict[str, Any]:
        while True:
            frame: dict[str, Any] = json.loads(self._connection.recv(timeout=30))
            if frame.get("id") == self._last_id:
                return frame


def talk(port: int, room: str, count: int, *, people: int = 10) -> None:
    """Some people say `count` things between them, edit every tenth and delete every twentieth."""

    def say_one_part(number: int) -> None:
        with Stranger.guest(f"Guest {number}", port, room) as stranger:
            for turn in range(count // people):
                message_id = stranger.say(f"guest {number} says {turn}")
                if turn % 10 == 4:
                    text = f"guest {number} means {turn}"
                    stranger.write("chat.edit_message", message_id=message_id, text=text)
                if turn % 20 == 9:
                    stranger.write("chat.delete_message", message_id=message_id)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(say_one_part, range(people)))


def _visitor(port: int) -> Visitor:
    return Visitor(Door(f"http://127.0.0.1:{port}", ("127.0.0.1", port)))
