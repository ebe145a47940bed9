"""What the bench believes: only answers and events that agree about every place."""

import json
import socket
from collections.abc import Iterator

import pytest

from loadtest.bench.lines import Line
from loadtest.bench.posting import Answer, Post
from loadtest.bench.proof import Room, heard, missing
from loadtest.bench.wire import WireError

Place = tuple[int, str]


@pytest.fixture
def line() -> Iterator[Line]:
    with socket.socket() as one:
        yield Line(one)


def answers(line: Line, *places: Place) -> list[Answer]:
    post = Post(1, "lobby", b"")
    return [
        Answer(
            post, line, 0.0, 0.1, json.dumps({"id": 1, "reply": {"sequence": at, "message_id": key}}).encode()
        )
        for at, key in places
    ]


def room(line: Line, *places: Place, after: int = 4) -> Room:
    for at, key in places:
        event = {"stream": "room.lobby", "sequence": at, "event": "chat.message_posted"}
        line.heard.append((0.2, json.dumps(event | {"data": {"message_id": key}}).encode()))
    return Room("lobby", {"epoch": 1, "sequence": after}, [line])


def test_events_that_are_where_the_answers_said_lack_nothing(line: Line) -> None:
    assert missing(answers(line, (6, "b"), (5, "a")), [room(line, (5, "a"), (6, "b"))]) == ""


def test_what_an_observer_lacks_is_told(line: Line) -> None:
    assert missing(answers(line, (5, "a"), (6, "b")), [room(line, (5, "a"))]).endswith("got 1 of 2 events")


@pytest.mark.parametrize(
    "got",
    [
        [(5, "a"), (5, "a")],  # twice
        [(6, "b"), (5, "a")],  # out of order
        [(5, "a"), (6, "c")],  # somebody else's
        [(6, "b")],  # a hole
        [(5, "a"), (6, "b"), (7, "c")],  # nobody was told that it was stored
    ],
)
def test_events_that_are_not_where_the_answers_said_end_the_run(line: Line, got: list[Place]) -> None:
    with pytest.raises(WireError):
        missing(answers(line, (5, "a"), (6, "b")), [room(line, *got)])


def test_two_answers_with_one_place_end_the_run(line: Line) -> None:
    with pytest.raises(WireError, match="two answers"):
        missing(answers(line, (5, "a"), (5, "b")), [room(line)])


def test_answers_that_leave_a_hole_end_the_run(line: Line) -> None:
    with pytest.raises(WireError, match="hole"):
        missing(answers(line, (5, "a"), (7, "b")), [room(line)])


def test_only_durable_events_are_looked_at(line: Line) -> None:
    line.heard.append((0.1, b'{"event":"presence.joined","data":{}}'))
    assert heard(line) == []
