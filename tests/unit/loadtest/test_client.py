"""The bench's client, held to servers that do what they must not."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from loadtest.bench import wire
from loadtest.bench.client import SAMPLE_EVERY, Crowd
from loadtest.bench.control import Control
from loadtest.bench.servers.bare import ANSWER

SECONDS = 10.0
EXPECTED = [wire.event(wire.FIRST_NUMBER + number) for number in range(5)]
EVENTS = b"".join(map(wire.frame, EXPECTED))


class Sender:
    """A server whose connections say something only once they are told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.connections: list[socket.socket] = []

    def accept(self, count: int, answer: bytes = ANSWER) -> Thread:
        thread = Thread(target=self._accept, args=(count, answer))
        thread.start()
        return thread

    def _accept(self, count: int, answer: bytes) -> None:
        for _ in range(count):
            one, _ = self.listener.accept()
            one.recv(4096)
            one.sendall(answer)
            self.connections.append(one)

    def close(self) -> None:
        for one in [self.listener, *self.connections]:
            one.close()


@pytest.fixture
def sender() -> Iterator[Sender]:
    server = Sender()
    yield server
    server.close()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with Crowd() as one:
        yield one


def opened(crowd: Crowd, sender: Sender, count: int = 3) -> None:
    accepting = sender.accept(count)
    crowd.open(sender.port, [wire.request("/", sender.port)] * count)
    accepting.join(SECONDS)


def test_a_crowd_that_got_everything_is_content(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender)
    for one in sender.connections:
        one.sendall(EVENTS)
    crowd.receive(EXPECTED, SECONDS)
    for one in sender.connections:
        one.sendall(EVENTS)
    crowd.receive(EXPECTED, SECONDS)


def test_a_frame_that_one_connection_lacks_is_noticed(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender)
    for lost, one in enumerate(sender.connections):
        one.sendall(EVENTS[: -len(wire.frame(EXPECTED[-1]))] if lost == 1 else EVENTS)
    with pytest.raises(wire.WireError, match="1 of 3 connections lack bytes"):
        crowd.receive(EXPECTED, 0.2)


def test_a_frame_too_many_is_noticed(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender)
    for doubled, one in enumerate(sender.connections):
        one.sendall(EVENTS * 2 if doubled == 1 else EVENTS)
    with pytest.raises(wire.WireError, match=r"got 1,020 bytes instead of 510"):
        crowd.receive(EXPECTED, SECONDS)


def test_events_in_another_order_are_noticed_where_frames_are_read(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender, count=SAMPLE_EVERY + 1)
    swapped = b"".join(map(wire.frame, [EXPECTED[1], EXPECTED[0], *EXPECTED[2:]]))
    for position, one in enumerate(sender.connections):
        one.sendall(swapped if position == SAMPLE_EVERY else EVENTS)
    with pytest.raises(wire.WireError, match="other frames than were published"):
        crowd.receive(EXPECTED, SECONDS)


def test_a_connection_that_is_closed_is_noticed(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender)
    for one in sender.connections:
        one.sendall(EVENTS[:100])
        one.shutdown(socket.SHUT_WR)
    with pytest.raises(wire.WireError, match=r"was closed after 100 of 510 bytes"):
        crowd.receive(EXPECTED, SECONDS)


def test_segments_tell_joined_writes_from_single_ones(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender, count=1)
    before = crowd.segments()
    sender.connections[0].sendall(EVENTS)
    crowd.receive(EXPECTED, SECONDS)
    assert crowd.segments() - before == 1
    sender.connections[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for payload in EXPECTED:
        sender.connections[0].sendall(wire.frame(payload))
    crowd.receive(EXPECTED, SECONDS)
    assert crowd.segments() - before == 1 + len(EXPECTED)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\nno_identity", "refused.*401.*no_identity"),
        (ANSWER.replace(wire.ACCEPT, b"x" * len(wire.ACCEPT)), "refused"),
        (ANSWER + EVENTS, "more than one frame at first"),
        (ANSWER.replace(b"\x81", b"\x82"), "expected a whole text frame"),
    ],
)
def test_an_upgrade_that_went_wrong_is_noticed(
    crowd: Crowd, sender: Sender, answer: bytes, error: str
) -> None:
    accepting = sender.accept(1, answer)
    with pytest.raises(wire.WireError, match=error):
        crowd.open(sender.port, [wire.request("/", sender.port)])
    accepting.join(SECONDS)


def test_a_crowd_that_stays_answers_pings(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender)
    for one in sender.connections:
        one.sendall(bytes((wire.PING, 0)))
    crowd.stay(0.05)
    assert [one.recv(100) for one in sender.connections] == [wire.answer(wire.PING, b"")] * 3


def test_a_crowd_that_stays_wants_nothing_else(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender)
    sender.connections[0].sendall(EVENTS)
    with pytest.raises(wire.WireError, match="nothing but pings"):
        crowd.stay(SECONDS)


def test_each_address_has_so_many_connections(
    crowd: Crowd, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.client.PER_ADDRESS", 2)
    opened(crowd, sender, 5)
    hosts = [one.getpeername()[0] for one in sender.connections]
    assert sorted(hosts) == ["127.0.0.1"] * 2 + ["127.0.0.2"] * 2 + ["127.0.0.3"]


def test_whoever_is_there_answers_pings_while_others_come(crowd: Crowd, sender: Sender) -> None:
    opened(crowd, sender, 1)
    sender.connections[0].sendall(bytes((wire.PING, 0)))
    opened(crowd, sender, 3)
    crowd.stay(0.05)
    assert sender.connections[0].recv(100) == wire.answer(wire.PING, b"")


def test_the_control_connection_passes_over_pings(sender: Sender) -> None:
    accepting = sender.accept(1)
    control = Control(sender.port, wire.request("/", sender.port))
    accepting.join(SECONDS)
    sender.connections[0].sendall(bytes((wire.PING, 0)) + wire.frame(b'{"id":1,"reply":{"pid":7}}'))
    assert control.ask("bench.about") == {"pid": 7}
    control.close()
