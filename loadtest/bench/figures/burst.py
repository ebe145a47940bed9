"""Bursts: a hundred publishes in one turn of the loop, against the loop that sends each frame by itself."""

from functools import partial
from typing import Final

from loadtest.bench.figures import Sizes
from loadtest.bench.figures.publishing import Publishes, in_turns, rate, rate_ratio
from loadtest.bench.processes import BARE, CARILLON, Stage
from loadtest.bench.report import Row

PUBLISHES: Final = Publishes(100, per_tick=100)
WHAT: Final = "100 publishes in one tick"

_row = partial(Row, "burst")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Ours and the bare loop, in turns."""
    results = in_turns(stage, sizes.connections, sizes.rounds, {CARILLON: PUBLISHES, BARE: PUBLISHES})
    return [
        rate_ratio(_row, WHAT, (CARILLON, BARE), results, at_least=8.0),
        *(rate(_row, WHAT, kind, results) for kind in results),
    ]
