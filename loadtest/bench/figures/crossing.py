"""How soon a durable post that one node accepted is received from another."""

from functools import partial
from typing import Final

from loadtest.bench import proof
from loadtest.bench.figures import Sizes
from loadtest.bench.figures.gathering import Gathering, gathered
from loadtest.bench.posting import Run, percentile
from loadtest.bench.processes import CARILLON, ROOMS, Stage
from loadtest.bench.report import Row

FEW: Final = 50
"""Rooms."""
PER_SECOND: Final = 500.0
ROUNDS: Final = 3
BAR_MILLISECONDS: Final = 10

_row = partial(Row, "crossing")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Both nodes post into the same rooms, each half of it; every room is observed on both."""
    rooms = ROOMS[:FEW]
    whole: list[list[float]] = []
    after: list[list[float]] = []
    database, home = stage.durable()
    with (
        stage.running(CARILLON, CARILLON, home=home) as nodes,
        gathered(nodes, rooms, sizes.connections) as gathering,
    ):
        for number in range(-1, min(ROUNDS, sizes.rounds)):  # the first warms up and is not counted
            run = gathering.run(sizes.seconds, PER_SECOND)
            if number >= 0:
                first, second = _crossed(gathering, run)
                whole.append(first)
                after.append(second)
            gathering.forget()
    database.check()
    return [
        _row(f"{what}, {name}", "ms", [percentile(seconds, share) for seconds in rounds], at_most=bar)
        for what, rounds, share, bar in (
            ("post written → received from the other node", whole, 0.5, None),
            ("post written → received from the other node", whole, 0.99, BAR_MILLISECONDS),
            ("answer → received from the other node", after, 0.5, None),
            ("answer → received from the other node", after, 0.99, None),
        )
        for name in [f"p{share * 100:g} at {PER_SECOND:g} posts/s"]
    ]


def _crossed(gathering: Gathering, run: Run) -> tuple[list[float], list[float]]:
    """Seconds from writing, and from the answer, until each post came to its room's observer elsewhere.

    Below 0 after the answer: the other node was faster with the event than this one with its answer.
    """
    nodes = list(dict.fromkeys(gathering.posters.values()))
    received = {
        (node, key): at
        for room in gathering.rooms
        for node, line in zip(nodes, room.observers, strict=True)
        for _, key, at in proof.heard(line)
    }
    whole, after = [], []
    for answer, (_, key) in zip(run.answers, proof.places(run.answers), strict=True):
        [other] = [node for node in nodes if node is not gathering.posters[answer.line]]
        at = received[other, key]
        whole.append(at - answer.since)
        after.append(at - answer.at)
    return whole, after
