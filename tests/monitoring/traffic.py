"""People on each node who talk, come back, leave in odd ways and ask for what there is not."""

import json
from threading import Event, Thread
from types import TracebackType
from typing import Any, Final, Self

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from app.journal.keys import new_key
from deploy.local.ports import HOST
from tests.failure.checker.place import Node, Place
from tests.visitor import PATIENCE, Door, Visitor

ROUNDS: Final = 10
PAUSE_SECONDS: Final = 0.05
ODD_CODES: Final = (1000, 3999, 4000, 4321, 4999)


class Talker:
    """One guest of one node, until `stop` is set."""

    def __init__(self, node: Node, stop: Event) -> None:
        self.trouble: Exception | None = None
        self._visitor = Visitor(Door(f"http://{HOST}:{node.port}", (HOST, node.port)))
        self._name = f"guest of {node.name}"
        self._stop = stop
        self._place: dict[str, int] | None = None
        self._lives = 0
        self._ids = 0
        self.thread = Thread(target=self._run, name=self._name, daemon=True)

    def _run(self) -> None:
        try:
            self._visitor.enter_as_guest(self._name)
            while not self._stop.is_set():
                self._come_and_go()
                self._be_refused()
        except Exception as error:
            self.trouble = error

    def _come_and_go(self) -> None:
        origin = self._visitor.door.origin
        with self._visitor.connect(origin=origin, cookie=True) as connection:
            where = {} if self._place is None else {"position": self._place}
            joined = self._ask(connection, "chat.join_room", room="lobby", **where)
            position = joined["reply"]["position"]
            for number in range(ROUNDS):
                text = f"{number} of {self._name}"
                said = self._ask(connection, "chat.post_message", room="lobby", key=str(new_key()), text=text)
                position = {name: said["reply"][name] for name in ("epoch", "sequence")}
                self._ask(connection, "ping", seen={"room.lobby": position["sequence"]})
                self._stop.wait(PAUSE_SECONDS)
            self._place = position
            assert "error" in self._ask(connection, "chat.no_such_command")
            self._lives += 1
            connection.close(ODD_CODES[self._lives % len(ODD_CODES)])

    def _be_refused(self) -> None:
        with pytest.raises(InvalidStatus, match="401"):
            self._visitor.connect(origin=self._visitor.door.origin, ticket="nonsense")

    def _ask(self, connection: ClientConnection, name: str, **data: Any) -> Any:
        self._ids += 1
        connection.send(json.dumps({"id": self._ids, "command": name, "data": data}))
        while True:
            frame = json.loads(connection.recv(PATIENCE))
            if frame.get("id") == self._ids:
                return frame


class Traffic:
    """One talker on each node."""

    def __init__(self, place: Place) -> None:
        self._stop = Event()
        self._talkers = [Talker(node, self._stop) for node in place.nodes]

    def __enter__(self) -> Self:
        for talker in self._talkers:
            talker.thread.start()
        return self

    def check(self) -> None:
        """That all of them still talk."""
        for talker in self._talkers:
            if talker.trouble is not None:
                raise AssertionError(f"{talker.thread.name} gave up") from talker.trouble

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for talker in self._talkers:
            talker.thread.join(PATIENCE)
        self.check()
