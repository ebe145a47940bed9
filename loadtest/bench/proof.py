"""Whether everybody got what was acknowledged: once, in order, where the answers said. Knows no clock."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

import msgspec

from loadtest.bench.lines import DURABLE, Line
from loadtest.bench.posting import Answer
from loadtest.bench.wire import WireError

_decode: Final = msgspec.json.Decoder().decode


@dataclass
class Room:
    """A room, where its stream was when its observers had joined, and who they are."""

    name: str
    position: dict[str, int]
    observers: Sequence[Line]

    @property
    def sequence(self) -> int:
        """The last that its observers had seen."""
        return self.position["sequence"]


def heard(line: Line) -> list[tuple[int, str, float]]:
    """Sequence, key and time of each durable event that came to `line`, in the order of coming."""
    events = [(_decode(payload), at) for at, payload in line.heard if payload.startswith(DURABLE)]
    return [(event["sequence"], event["data"]["message_id"], at) for event, at in events]


def replies(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """What each answer said."""
    return [_decode(answer.payload)["reply"] for answer in answers]


def stored(answers: Sequence[Answer]) -> dict[str, dict[int, str]]:
    """Room → sequence → key, as the answers say. Raises `WireError` if two say the same place."""
    rooms: dict[str, dict[int, str]] = {}
    for answer, reply in zip(answers, replies(answers), strict=True):
        sequence, key = reply["sequence"], reply["message_id"]
        if rooms.setdefault(answer.post.room, {}).setdefault(sequence, key) != key:
            raise WireError(f"two answers name {answer.post.room} {sequence}")
    return rooms


def missing(answers: Sequence[Answer], rooms: Iterable[Room]) -> str:
    """What observers still lack of what was acknowledged; raises `WireError` for what cannot be mended."""
    acknowledged = stored(answers)
    for room in rooms:
        expected = sorted(acknowledged.get(room.name, {}).items())
        if [sequence for sequence, _ in expected] != list(
            range(room.sequence + 1, room.sequence + 1 + len(expected))
        ):
            raise WireError(f"the answers leave a hole in {room.name}")
        for line in room.observers:
            got = [(sequence, key) for sequence, key, _ in heard(line)]
            if got != expected[: len(got)]:
                wrong = next(pair for pair in zip_longest(got, expected) if pair[0] != pair[1])
                raise WireError(f"an observer of {room.name} got {wrong[0]} instead of {wrong[1]}")
            if len(got) < len(expected):
                return f"an observer of {room.name} got {len(got):,} of {len(expected):,} events"
    return ""
