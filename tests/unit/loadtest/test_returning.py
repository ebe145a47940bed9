"""People who come back, held to a server that lets them go, refuses them, or owes them something."""

import json
import socket
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol

from loadtest.bench import wire
from loadtest.bench.posting import endless
from loadtest.bench.returning import Heard, Returning
from loadtest.bench.servers.bare import ANSWER

SECONDS = 10.0
ROOM = "lobby"
HEAD = ANSWER[: ANSWER.index(b"\r\n\r\n") + 4]
RELEASED = {"event": "connection.released", "data": {"retry_after": 0.01}}
CLOSE = b"\x88\x02\x03\xf4"
Data = dict[str, Any]


class Node:
    """A room with a stream and one person. What it does with a post is up to `post`."""

    def __init__(self) -> None:
        self.post: Callable[[Data], None] = self.well
        self.refusals = [b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\nlate"]
        self.events: list[bytes] = []
        self.keys: list[str] = []
        self.resumed_from: list[int] = []
        self.pongs = 0
        self.releasing = False
        self.one: socket.socket
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        self._listener.close()

    # What it may do with a post

    def well(self, command: Data) -> None:
        self.tell(self.store(command))
        self.reply(command, {"sequence": len(self.events)})

    def store(self, command: Data) -> bytes:
        event = {"stream": "room.lobby", "sequence": len(self.events) + 1, "event": "chat.message_posted"}
        self.events.append(
            json.dumps(event | {"data": {"text": command["data"]["text"]}}, separators=(",", ":")).encode()
        )
        return self.events[-1]

    def reply(self, command: Data, reply: Data) -> None:
        self.say({"id": command["id"], "reply": reply})

    def say(self, message: Data) -> None:
        self.tell(json.dumps(message, separators=(",", ":")).encode())

    def tell(self, payload: bytes) -> None:
        self.one.sendall(wire.frame(payload))

    def release(self) -> None:
        self.say(RELEASED)
        self.one.sendall(CLOSE)
        self.releasing = True

    # Inside

    def _serve(self) -> None:
        while True:
            try:
                self.one, _ = self._listener.accept()
            except OSError:
                return
            with self.one:
                self.one.recv(4096)
                if self.refusals:
                    self.one.sendall(self.refusals.pop())
                    continue
                self.releasing = False
                self.one.sendall(HEAD)
                self.say({"event": "hello", "data": {"node": "node-1"}})
                self.one.sendall(bytes((wire.PING, 0)))
                self._talk()

    def _talk(self) -> None:
        parser = Protocol(SERVER)
        while data := self.one.recv(65536):
            parser.receive_data(data)
            for frame in parser.events_received():
                assert isinstance(frame, Frame)
                self.pongs += frame.opcode is Opcode.PONG
                if frame.opcode is Opcode.TEXT and not self.releasing:
                    self._do(json.loads(bytes(frame.data)))

    def _do(self, command: Data) -> None:
        if command["command"] == "chat.post_message":
            self.keys.append(command["data"]["key"])
            self.post(command)
        elif command["command"] == "chat.join_room":
            self.reply(command, {"position": {"epoch": 3, "sequence": len(self.events)}, "resumed": False})
        else:
            [room] = command["data"]["rooms"]
            self.resumed_from.append(room["sequence"])
            self.reply(command, {"rooms": [{"room": ROOM, "resumed": True}]})
            for event in self.events[room["sequence"] :]:
                self.tell(event)


@pytest.fixture
def node() -> Iterator[Node]:
    one = Node()
    yield one
    one.close()


@pytest.fixture
def people(node: Node) -> Iterator[Returning]:
    one = Returning(node.port, [ROOM], [wire.request("/", node.port)], endless([ROOM]))
    yield one
    one.close()


def say(people: Returning, count: int) -> Heard:
    """So many at least are acknowledged; then everybody is there, and has all or too much."""
    people.talk(1000.0)
    assert people.go_on(lambda: len(people.answers) >= count, SECONDS)
    people.talk(0)
    assert people.go_on(lambda: not people.under_way and people.here == 1, SECONDS)
    people.go_on(people.complete, 0.1)
    return people.judged()


def test_who_heard_everything_heard_it_once_and_in_its_place(node: Node, people: Returning) -> None:
    heard = say(people, 5)
    assert heard == Heard(len(node.events), 0, 0, 0)
    assert heard.expected >= 5
    assert (node.pongs, people.refused, len(people.arrivals)) == (1, 1, 1)
    assert people.back == []


def test_whoever_is_let_go_comes_back_goes_on_and_asks_again_with_the_same_key(
    node: Node, people: Returning
) -> None:
    def let_go(command: Data) -> None:
        node.store(command)  # neither told nor answered
        node.post = answer_again
        node.release()

    def answer_again(command: Data) -> None:
        node.post = node.well
        node.reply(command, {"sequence": len(node.events)})

    say(people, 3)
    node.post = let_go
    assert say(people, len(people.answers) + 3).lost == 0
    assert len(node.resumed_from) == len(people.back) == 1
    assert len(node.keys) == len(set(node.keys)) + 1
    assert [name for _, name in people.arrivals] == ["node-1", "node-1"]


def test_a_busy_node_is_asked_again_with_the_same_key(node: Node, people: Returning) -> None:
    def busy(command: Data) -> None:
        node.post = node.well
        node.say({"id": command["id"], "error": {"code": "busy", "message": "later", "retry_after": 0.001}})

    node.post = busy
    assert say(people, 2).lost == 0
    assert len(node.keys) == len(set(node.keys)) + 1


@pytest.mark.parametrize(("times", "expected"), [(0, (1, 0, 0)), (2, (0, 1, 0))], ids=["lost", "doubled"])
def test_a_frame_too_few_or_too_many_is_counted(
    node: Node, people: Returning, times: int, expected: tuple[int, int, int]
) -> None:
    def tell(command: Data) -> None:
        node.post = node.well
        for _ in range(times):
            node.tell(node.events[-1])
        node.reply(command, {"sequence": len(node.events)})

    def store(command: Data) -> None:
        node.store(command)
        tell(command)

    node.post = store
    heard = say(people, 3)
    assert (heard.lost, heard.doubled, heard.misordered) == expected


def test_frames_in_another_order_are_counted(node: Node, people: Returning) -> None:
    held: list[bytes] = []

    def swap(command: Data) -> None:
        held.append(node.store(command))
        node.reply(command, {"sequence": len(node.events)})
        if len(held) == 2:
            node.post = node.well
            for event in reversed(held):
                node.tell(event)

    node.post = swap
    assert say(people, 3) == Heard(len(node.events), 0, 0, 1)


def test_what_only_the_next_run_brings_belongs_to_none(node: Node, people: Returning) -> None:
    late: list[bytes] = []

    def keep(command: Data) -> None:
        node.post = node.well
        late.append(node.store(command))
        node.reply(command, {"sequence": len(node.events)})

    node.post = keep
    assert say(people, 1).lost == 1
    people.forget()
    node.tell(late[0])
    assert say(people, 3).lost == 0


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"event": "stream.reset", "data": {"stream": "room.lobby", "reason": "epoch"}}, "start over"),
        (
            {"id": 2**40, "reply": {"rooms": [{"room": ROOM, "resumed": False, "reset": "too_far"}]}},
            "start over",
        ),
        ({"id": 2**40, "error": {"code": "not_found", "message": "gone"}}, "was refused"),
        ({"id": 77, "reply": {}}, "nobody asked"),
        ({"stream": "room.lobby", "sequence": 9, "data": {"text": "0000000001" * 10}}, "another text"),
    ],
)
def test_what_a_server_must_never_say_ends_the_run(
    node: Node, people: Returning, message: Data, error: str
) -> None:
    say(people, 1)
    node.say(message)
    with pytest.raises(wire.WireError, match=error):
        people.go_on(lambda: False, SECONDS)


def test_another_place_than_was_answered_ends_the_run(node: Node, people: Returning) -> None:
    def misplace(command: Data) -> None:
        node.post = node.well
        node.tell(node.store(command))
        node.reply(command, {"sequence": len(node.events) + 1})

    say(people, 1)
    node.post = misplace
    with pytest.raises(wire.WireError, match="was stored as"):
        say(people, len(people.answers) + 1)
