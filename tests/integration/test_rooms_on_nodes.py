"""Rooms on two real nodes with one PostgreSQL: what is said on one is heard on the other, by every way."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from app.journal.keys import new_key
from deploy.local.processes import wait_until
from tests.failure.checker.place import Node, Place
from tests.visitor import PATIENCE, Door, Visitor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE_CONNECT_SECONDS", "2")
        with Place(tmp_path_factory.mktemp("place"), "postgresql", nodes=2) as place:
            yield place


class Guest:
    """Somebody at one node."""

    def __init__(self, name: str, node: Node, cookies: dict[str, str] | None = None) -> None:
        self.visitor = Visitor(Door(f"http://127.0.0.1:{node.port}", ("127.0.0.1", node.port)))
        if cookies is None:
            self.visitor.enter_as_guest(name)
        else:
            self.visitor.cookies = cookies
        self.events: list[dict[str, Any]] = []
        self._connection: ClientConnection | None = None
        self._id = 0

    @contextmanager
    def connected(self) -> Iterator["Guest"]:
        with self.visitor.connect(origin=self.visitor.door.origin, cookie=True) as self._connection:
            self.events.clear()
            yield self

    def command(self, name: str, **data: Any) -> Any:
        """The reply, or the error."""
        assert self._connection is not None
        self._id += 1
        self._connection.send(json.dumps({"id": self._id, "command": name, "data": data}))
        while True:
            frame = json.loads(self._connection.recv(PATIENCE))
            if frame.get("id") == self._id:
                return frame.get("reply", frame.get("error"))
            self.events.append(frame)

    def post(self, text: str, key: str = "") -> Any:
        return self.command("chat.post_message", room="lobby", key=key or str(new_key()), text=text)

    def hears(self, text: str) -> dict[str, Any]:
        """Waits for this message."""
        assert self._connection is not None
        while True:
            for frame in self.events:
                if frame.get("data", {}).get("text") == text:
                    return frame
            self.events.append(json.loads(self._connection.recv(PATIENCE)))


class Listener:
    """A response of server-sent events."""

    def __init__(self, response: HTTPResponse) -> None:
        self.response = response

    def next(self) -> dict[str, str]:
        """The fields of the next event."""
        fields: dict[str, str] = {}
        while True:
            line = self.response.readline().decode().rstrip("\n")
            name, colon, value = line.partition(": ")
            if colon:
                fields[name] = value
            elif not line and fields:
                return fields


@contextmanager
def listening(guest: Guest, node: Node, **headers: str) -> Iterator[Listener]:
    http = HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE)
    try:
        http.request("GET", "/rooms/lobby/events/", headers={"Cookie": guest.visitor.cookie, **headers})
        yield Listener(http.getresponse())
    finally:
        http.close()


def test_what_is_said_on_one_node_is_heard_on_the_other_over_both_transports(place: Place) -> None:
    one, two = place.nodes
    ada = Guest("ada", one)
    bob = Guest("bob", two)
    with ada.connected(), bob.connected(), listening(bob, two) as page:
        assert page.response.status == 200
        snapshot = page.next()
        assert snapshot["event"] == "snapshot"
        start = bob.command("chat.join_room", room="lobby")["position"]
        ada.command("chat.join_room", room="lobby")
        posted = ada.post("ding")
        frame = bob.hears("ding")
        assert (frame["sequence"], frame["data"]["node"]) == (posted["sequence"], "node-1")
        event = page.next()
        assert event["id"] == f"{posted['epoch']}-{posted['sequence']}"
        assert json.loads(event["data"]) == frame == ada.hears("ding")
    ada_elsewhere = Guest("", two, ada.visitor.cookies)
    with ada.connected(), ada_elsewhere.connected():
        ada.post("dong")
        again = ada_elsewhere.command("chat.join_room", room="lobby", position=start)
        assert again["resumed"] is True
        assert [ada_elsewhere.hears(text)["sequence"] for text in ("ding", "dong")] == [
            start["sequence"] + 1,
            start["sequence"] + 2,
        ]
    where = {"Last-Event-ID": f"{start['epoch']}-{start['sequence']}"}
    with listening(bob, one, **where) as page:
        assert [json.loads(page.next()["data"])["data"]["text"] for _ in range(2)] == ["ding", "dong"]


def test_a_listener_needs_to_be_somebody(place: Place) -> None:
    nobody = Guest("", place.nodes[0], {})
    with listening(nobody, place.nodes[0]) as page:
        assert page.response.status == 401
    with listening(Guest("eve", place.nodes[0]), place.nodes[0], Origin="https://evil.example") as page:
        assert page.response.status == 403


def tally(node: str, expected: int, written: int, confirmed: int, recovered: int) -> dict[str, Any]:
    return {
        "node": node,
        "expected": expected,
        "written": written,
        "confirmed": confirmed,
        "recovered": recovered,
    }


def on_internal_port(node: Node, path: str) -> Any:
    """The page, or the status when it is another than 200."""
    http = HTTPConnection("127.0.0.1", node.internal_port, timeout=PATIENCE)
    try:
        http.request("GET", path)
        response = http.getresponse()
        text = response.read()
        return json.loads(text) if response.status == 200 else response.status
    finally:
        http.close()


def account(node: Node, sequence: int) -> Any:
    return on_internal_port(node, f"/deliveries?stream=room.lobby&sequence={sequence}")


def deliveries(guest: Guest, sequence: int) -> Any:
    """What every node answers: one that is busy may need to be asked again."""
    answer: dict[str, Any] = {}

    def complete() -> bool:
        answer.update(guest.command("chat.deliveries", room="lobby", sequence=sequence))
        return not answer["unheard"]

    wait_until(complete, PATIENCE)
    return answer


def test_who_posts_learns_who_got_it_on_which_node_and_who_came_back_for_it(place: Place) -> None:
    one, two = place.nodes
    ada, bob, eve = Guest("ada", one), Guest("bob", two), Guest("eve", two)
    with ada.connected(), eve.connected():
        ada.command("chat.join_room", room="lobby")
        eve.command("chat.join_room", room="lobby")
        with bob.connected():
            start = bob.command("chat.join_room", room="lobby")["position"]
            before = ada.post("to all")["sequence"]
            bob.hears("to all")
            bob.command("ping", seen={"room.lobby": before})
        eve.hears("to all")

        def alone() -> bool:
            """Whether eve's node has noticed that bob is gone: only then is he missed by what comes."""
            text = f"is he gone? {new_key()}"
            probe = ada.post(text)["sequence"]
            eve.hears(text)
            return bool(account(two, probe)["expected"] == 1)

        assert wait_until(alone, PATIENCE)
        missed = ada.post("to who is left")["sequence"]
        eve.hears("to who is left")
        with Guest("", one, bob.visitor.cookies).connected() as bob:
            assert bob.command("chat.join_room", room="lobby", position=start)["resumed"] is True
            bob.hears("to who is left")
            bob.command("ping", seen={"room.lobby": missed})
            eve.command("ping", seen={"room.lobby": missed})
            everywhere = [tally("node-1", 1, 1, 1, 1), tally("node-2", 1, 1, 1, 0)]
            assert deliveries(ada, missed) == {"nodes": everywhere, "unheard": []}
            everywhere = [tally("node-1", 1, 1, 1, 1), tally("node-2", 2, 2, 2, 0)]
            assert deliveries(ada, before) == {"nodes": everywhere, "unheard": []}
            refused = bob.command("chat.deliveries", room="lobby", sequence=missed)
            assert refused["code"] == "not_allowed"
        assert account(two, missed) == tally("node-2", 1, 1, 1, 0)
        assert account(one, missed + 10) == 404


def test_a_node_that_says_nothing_is_named(place: Place) -> None:
    one, two = place.nodes
    with Guest("ada", one).connected() as ada:
        ada.command("chat.join_room", room="lobby")
        sequence = ada.post("anybody?")["sequence"]
        ada.hears("anybody?")

        def unheard() -> list[str]:
            answer = ada.command("chat.deliveries", room="lobby", sequence=sequence)
            assert answer["nodes"] == [tally("node-1", 1, 1, 0, 0)]
            return list(answer["unheard"])

        def beacons() -> list[str]:
            peers = on_internal_port(one, "/peers")["nodes"]
            return sorted(peer["name"] for peer in peers if peer["told_by"] == "bus")

        assert wait_until(lambda: beacons() == ["node-1", "node-2"], PATIENCE)
        assert wait_until(lambda: unheard() == [], PATIENCE)
        place.pause(two)
        try:
            assert unheard() == ["node-2"]
        finally:
            place.go_on(two)
        assert wait_until(lambda: unheard() == [], PATIENCE)


def test_while_the_database_is_away_commands_say_so_and_nothing_is_lost(place: Place) -> None:
    assert place.postgres is not None
    log = place.folder / "nodes.log"
    with Guest("ada", place.nodes[0]).connected() as ada, Guest("bob", place.nodes[1]).connected() as bob:
        ada.command("chat.join_room", room="lobby")
        start = bob.command("chat.join_room", room="lobby")["position"]
        before = len(log.read_text().splitlines())
        key = str(new_key())
        place.postgres.stop()
        try:
            assert ada.post("survives", key)["code"] in ("busy", "unknown")
            assert bob.command("chat.join_room", room="bell-tower")["code"] == "busy"
            assert bob.command("chat.join_room", room="lobby", position=start)["code"] == "busy"
            assert bob.command("chat.history", room="lobby", before=10)["code"] == "busy"
            place_of_bob = {"room": "lobby", **start}
            (answer,) = bob.command("chat.resume", rooms=[place_of_bob])["rooms"]
            assert answer["error"]["code"] == "busy"
            assert bob.command("chat.mark_read", room="lobby", sequence=start["sequence"]) == {}
        finally:
            place.postgres.start()
        said = log.read_text().splitlines()[before:]
        assert not [line for line in said if "Traceback" in line], "\n".join(said)
        assert len([line for line in said if "app.chat" in line]) <= 2, "\n".join(said)
        stored: dict[str, Any] = {}

        def answered() -> bool:
            stored.update(ada.post("survives", key))
            return "sequence" in stored

        assert wait_until(answered, PATIENCE)
        assert ada.post("survives", key)["sequence"] == stored["sequence"]
        assert bob.hears("survives")["sequence"] == stored["sequence"]
        assert bob.command("chat.join_room", room="bell-tower")["room"] == "bell-tower"
