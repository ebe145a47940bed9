"""Everybody comes back at once, to a node that knows none of their rooms: what that costs the database, and
how soon all have what they missed.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final

import msgspec

from loadtest.bench import wire
from loadtest.bench.client import Crowd
from loadtest.bench.database import Database
from loadtest.bench.figures import VERIFIED_SECONDS, Sizes
from loadtest.bench.figures.gathering import gathered
from loadtest.bench.lines import Line, Lines
from loadtest.bench.processes import CARILLON, ROOMS, Server, Stage
from loadtest.bench.proof import Room
from loadtest.bench.report import Row

MISSED: Final = 5
"""Events of each room that nobody of those who come back has seen."""
ROUNDS: Final = 3
PATIENCE_SECONDS: Final = 60.0
PER_QUERY: Final = 500
QUIET_SECONDS: Final = 3.0
"""So long it is counted what the nodes ask for by themselves."""

_row = partial(Row, "resumes")
_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Round:
    """One time that all came back."""

    queries: int
    """All of that time."""
    own_per_second: float
    """What the nodes ask for anyway."""
    seconds: float

    @property
    def for_them(self) -> float:
        """What came on top, one at least: below that the difference says nothing."""
        return max(1.0, self.queries - self.own_per_second * self.seconds)


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """One node is posted to. On the other `sizes.idle` connections are open; then each resumes a room."""
    rounds: list[Round] = []
    database, home = stage.durable()
    with (
        stage.running(CARILLON, CARILLON, home=home) as [node, other],
        gathered([node], ROOMS, sizes.connections) as gathering,
    ):
        for number in range(-1, min(ROUNDS, sizes.rounds)):  # the first warms up and is not counted
            gathering.forget()
            gathering.run(PATIENCE_SECONDS, count=MISSED * len(ROOMS))
            one = _come_back(other, database, gathering.rooms, sizes.idle)
            if number >= 0:
                rounds.append(one)
    name = f"{sizes.idle:,} clients resume at once"
    return [
        _row(f"{name}, per query", "", [sizes.idle / one.for_them for one in rounds], at_least=PER_QUERY),
        _row(f"{name}, queries for them", "", [one.for_them for one in rounds]),
        _row("queries in that time, the nodes' own among them", "", [one.queries for one in rounds]),
        _row("queries of both nodes' own business", "/s", [one.own_per_second for one in rounds]),
        _row(f"{name}, until the last has its {MISSED} missed events", "s", [one.seconds for one in rounds]),
    ]


def _come_back(node: Server, database: Database, rooms: Sequence[Room], count: int) -> Round:
    """Until `count` clients have what they missed. Raises `WireError` if they get anything else."""
    back = [rooms[number % len(rooms)] for number in range(count)]
    asked = [
        wire.command(1, "chat.resume", {"rooms": [{"room": room.name} | room.position]}) for room in back
    ]
    with Crowd() as crowd:
        crowd.open(node.port, node.requests(node.kind.idle_path, count))
        time.sleep(VERIFIED_SECONDS)  # looking accounts up is not what is counted
        with database.counting() as own:
            time.sleep(QUIET_SECONDS)
        lines = Lines(map(Line, crowd.sockets))
        with database.counting() as counted:
            started = perf_counter()
            answers = lines.ask(asked, PATIENCE_SECONDS, events=MISSED)
            took = perf_counter() - started
        lines.close()
    for room, (answer, *events) in zip(back, answers, strict=True):
        _check(room, _decode(answer)["reply"]["rooms"], [_decode(event) for event in events])
    own_per_second = len(own.queries) / QUIET_SECONDS
    return Round(len(counted.queries), own_per_second, took)


def _check(room: Room, resumed: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    if [(one["room"], one.get("resumed")) for one in resumed] != [(room.name, True)]:
        raise wire.WireError(f"{room.name} was not resumed: {json.dumps(resumed)[:300]}")
    sequences = [event["sequence"] for event in events]
    if sequences != list(range(room.sequence + 1, room.sequence + 1 + MISSED)):
        raise wire.WireError(f"{room.name} was resumed from {room.sequence} with {sequences}")
