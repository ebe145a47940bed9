"""How soon a durable post that one node accepted is received from another."""

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Final

from loadtest.bench import proof
from loadtest.bench.disk import flushes
from loadtest.bench.figures import Sizes
from loadtest.bench.figures.gathering import Gathering, gathered
from loadtest.bench.posting import Run, percentile
from loadtest.bench.processes import CARILLON, ROOMS, Stage
from loadtest.bench.report import Row

FEW: Final = 50
"""Rooms."""
PER_SECOND: Final = 500.0
ROUNDS: Final = 3
BAR: Final = 10
FLUSHES: Final = 500

_row = partial(Row, "crossing")


@dataclass(frozen=True)
class Crossed:
    """Seconds until each post came to its room's observer on the other node."""

    accepted: list[float]
    """Since the node took it in, by that node's clock (`sent_at`): the commit is in it."""
    due: list[float]
    """Since the client was to write it."""
    answered: list[float]
    """Since the client had the answer. Below 0: the other node was faster with the event."""


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Both nodes post into the same rooms, each half of it; every room is observed on both."""
    rooms = ROOMS[:FEW]
    rounds: list[Crossed] = []
    disk: list[list[float]] = []
    database, home = stage.durable()
    with (
        stage.running(CARILLON, CARILLON, home=home) as nodes,
        gathered(nodes, rooms, sizes.connections) as gathering,
    ):
        for number in range(-1, min(ROUNDS, sizes.rounds)):  # the first warms up and is not counted
            run = gathering.run(sizes.seconds, PER_SECOND)
            if number >= 0:
                rounds.append(_crossed(gathering, run))
                disk.append(flushes(stage.folder, FLUSHES))
            gathering.forget()
    database.check()
    pace = f"at {PER_SECOND:g} posts/s"
    return [
        _row(f"{what}, p{share * 100:g}", "ms", [percentile(one, share) for one in seconds], at_most=bar)
        for what, seconds, share, bar in (
            (f"accepted → received from the other node {pace}", [one.accepted for one in rounds], 0.5, None),
            (f"accepted → received from the other node {pace}", [one.accepted for one in rounds], 0.99, BAR),
            (f"due → received from the other node {pace}", [one.due for one in rounds], 0.99, None),
            (f"answered → received from the other node {pace}", [one.answered for one in rounds], 0.99, None),
            ("the same disk, one flushed page", disk, 0.5, None),
            ("the same disk, one flushed page", disk, 0.99, None),
        )
    ]


def _crossed(gathering: Gathering, run: Run) -> Crossed:
    nodes = list(dict.fromkeys(gathering.posters.values()))
    received = {
        (node, key): at
        for room in gathering.rooms
        for node, line in zip(nodes, room.observers, strict=True)
        for _, key, at in proof.heard(line)
    }
    crossed = Crossed([], [], [])
    clock = time.time() - perf_counter()  # the nodes' clock is this machine's, too
    for answer, reply in zip(run.answers, proof.replies(run.answers), strict=True):
        [other] = [node for node in nodes if node is not gathering.posters[answer.line]]
        at = received[other, reply["message_id"]]
        accepted = datetime.fromisoformat(reply["sent_at"]).timestamp()
        crossed.accepted.append(at + clock - accepted)
        crossed.due.append(at - answer.since)
        crossed.answered.append(at - answer.at)
    return crossed
