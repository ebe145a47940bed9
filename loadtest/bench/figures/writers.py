"""Four nodes write into the same rooms: nobody waits for ever, and the tables have no hole."""

from functools import partial
from typing import Final

from loadtest.bench.figures import Sizes
from loadtest.bench.figures.gathering import gathered
from loadtest.bench.posting import Run
from loadtest.bench.processes import CARILLON, ROOMS, Stage
from loadtest.bench.report import Row

NODES: Final = 4
FEW: Final = 20
"""Rooms."""
ROUNDS: Final = 3

_row = partial(Row, "writers")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """All nodes share the servers' core, so this says nothing about how fast four nodes are."""
    rooms = ROOMS[:FEW]
    runs: list[Run] = []
    database, home = stage.durable()
    with (
        stage.running(*[CARILLON] * NODES, home=home) as nodes,
        gathered(nodes, rooms, sizes.connections) as gathering,
    ):
        for number in range(-1, min(ROUNDS, sizes.rounds)):  # the first warms up and is not counted
            run = gathering.run(sizes.seconds)
            gathering.forget()
            if number >= 0:
                runs.append(run)
    _, deadlocks = database.transactions()
    database.check()
    name = f"{NODES} nodes into the same {FEW} rooms"
    return [
        _row(f"{name}, posts", "/s", [run.per_second for run in runs]),
        _row(f"{name}, deadlocks", "", [deadlocks], at_most=0),
    ]
