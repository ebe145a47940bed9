"""Bursts: a hundred publishes in one turn of the loop, against the loop that sends each frame by itself."""

from functools import partial
from typing import Final

from loadtest.bench.figures import Sizes
from loadtest.bench.figures.publishing import Publishes, in_turns
from loadtest.bench.processes import BARE, CARILLON, Stage
from loadtest.bench.report import RATIO, Row, ratios

PUBLISHES: Final = Publishes(100, per_tick=100)

_row = partial(Row, "burst")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Ours and the bare loop, in turns."""
    results = in_turns(stage, sizes.connections, sizes.rounds, {CARILLON: PUBLISHES, BARE: PUBLISHES})
    told = {kind: [one.per_second for one in rounds] for kind, rounds in results.items()}
    heard = {kind: [one.received_per_second for one in rounds] for kind, rounds in results.items()}
    return [
        _row(
            f"{CARILLON.name} ÷ {BARE.name}, 100 publishes in one tick",
            RATIO,
            ratios(told[CARILLON], told[BARE]),
            ratios(heard[CARILLON], heard[BARE]),
            at_least=8.0,
        ),
        *(
            _row(f"{kind.name}, 100 publishes in one tick", "deliveries/s", told[kind], heard[kind])
            for kind in results
        ),
    ]
