"""The load generator of durable posts, held to servers that answer as they must not."""

import re
import socket
from collections.abc import Callable, Iterator
from threading import Thread

import pytest

from loadtest.bench import wire
from loadtest.bench.lines import Line, Lines
from loadtest.bench.posting import Posting, percentile, posts

SECONDS = 10.0
ROOMS = ["lobby", "cellar"]

Say = Callable[[int], list[bytes]]


def well(number: int) -> list[bytes]:
    return [b'{"id":%d,"reply":{"sequence":1}}' % number]


class Answering:
    """A server's end of one connection: what it says to each command is up to `say`."""

    def __init__(self, say: Say) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.line = Line(self.near)
        self._say = say
        self._thread = Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        while data := self.far.recv(65536):
            for number in re.findall(rb'{"id": ?(\d+)', data):
                for payload in self._say(int(number)):
                    self.far.sendall(wire.frame(payload))

    def close(self) -> None:
        self.near.close()
        self._thread.join(SECONDS)
        self.far.close()


Start = Callable[[Say], Line]


@pytest.fixture
def answering() -> Iterator[Start]:
    servers = []

    def start(say: Say) -> Line:
        servers.append(Answering(say))
        return servers[-1].line

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def observer() -> Iterator[tuple[Line, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield Line(near), far


def test_posts_go_to_the_rooms_in_turn_under_keys_of_their_own() -> None:
    made = posts(ROOMS, 100)
    assert [post.room for post in made] == ROOMS[::-1] * 50
    keys = {
        re.findall(
            rb'"key":"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"', post.frame
        )[0]
        for post in made
    }
    assert len(keys) == 100


def test_every_post_is_answered_once(answering: Start) -> None:
    posting = Posting([answering(well), answering(well)], [])
    run = posting.run(posts(ROOMS, 50), SECONDS)
    posting.close()
    assert sorted(answer.post.number for answer in run.answers) == list(range(1, 51))
    assert run.milliseconds(0.5) > 0


def test_a_pace_is_kept_and_nothing_is_posted_behind_the_end(answering: Start) -> None:
    posting = Posting([answering(well)], [])
    run = posting.run(posts(ROOMS, 1000), 0.5, 100.0)
    posting.close()
    assert 0 < len(run.answers) < 1000


@pytest.mark.parametrize(
    "say",
    [
        lambda number: [b'{"id":%d,"error":{"code":"busy","message":"later"}}' % number],
        lambda number: [b'{"id":%d,"reply":{}}' % (number + 1)],
    ],
    ids=["refused", "another post's answer"],
)
def test_another_answer_than_that_it_is_stored_ends_the_run(answering: Start, say: Say) -> None:
    posting = Posting([answering(say)], [])
    with pytest.raises(wire.WireError, match="expected the reply"):
        posting.run(posts(ROOMS, 5), SECONDS)
    posting.close()


def test_events_of_observers_are_kept_in_the_order_of_coming(
    answering: Start, observer: tuple[Line, socket.socket]
) -> None:
    line, far = observer
    frames = wire.frame(b'{"stream":"a"}') + wire.frame(b'{"stream":"b"}')
    posting = Posting([answering(well)], [line])
    far.sendall(frames[:-3])  # a frame comes in two pieces
    posting.run(posts(ROOMS, 5), SECONDS)
    far.sendall(frames[-3:])
    posting.listen(0.05)
    posting.close()
    assert [payload for _, payload in line.heard] == [b'{"stream":"a"}', b'{"stream":"b"}']


def test_an_answer_is_awaited_with_the_events_behind_it(answering: Start) -> None:
    line = answering(lambda number: [b'{"event":"x"}', *well(number), b'{"stream":"a"}'])
    lines = Lines([line])
    [got] = lines.ask([wire.command(7, "chat.resume", {})], SECONDS, events=1)
    lines.close()
    assert got == [*well(7), b'{"stream":"a"}']


@pytest.mark.parametrize(
    "said",
    [
        [b'{"stream":"a"}', b'{"id":7,"reply":{}}'],
        [b'{"id":7,"error":{}}', b'{"stream":"a"}'],
        [b'{"id":7,"reply":{}}', b'{"stream":"a"}', b'{"stream":"b"}'],
    ],
    ids=["an event before the answer", "a refusal", "an event too many"],
)
def test_another_order_ends_the_run(said: list[bytes]) -> None:
    # In one piece, so that nothing can arrive after the last look.
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        lines = Lines([Line(near)])
        far.sendall(b"".join(map(wire.frame, said)))
        with pytest.raises(wire.WireError):
            lines.ask([b"?"], SECONDS, events=1)
        lines.close()


def test_a_connection_that_ends_is_told() -> None:
    near, far = socket.socketpair()
    with near:
        lines = Lines([Line(near)])
        far.close()
        with pytest.raises(wire.WireError, match="closed"):
            lines.ready(SECONDS)[0].read()
        lines.close()


def test_percentiles_are_in_milliseconds() -> None:
    assert percentile([0.001 * number for number in range(100)], 0.99) == pytest.approx(99)
