"""What one delivery costs the server's core at a pace that leaves it time to rest."""

from functools import partial
from typing import Final

from loadtest.bench.figures import Sizes
from loadtest.bench.figures.publishing import Publishes, in_turns
from loadtest.bench.processes import BARE, CARILLON, STOCK_CORE, STOCK_PUBSUB, Stage
from loadtest.bench.report import RATIO, Row, ratios

PUBLISHES: Final = Publishes(150, per_second=50.0)
STOCK_PUBLISHES: Final = Publishes(9, per_second=3.0)
ROUNDS: Final = 3
"""Each lasts 3 s, so few are enough."""

_row = partial(Row, "paced")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Ours and the bare loop at 50 publishes a second, both stock layers at 3."""
    plan = {
        CARILLON: PUBLISHES,
        BARE: PUBLISHES,
        STOCK_PUBSUB: STOCK_PUBLISHES,
        STOCK_CORE: STOCK_PUBLISHES,
    }
    results = in_turns(stage, sizes.connections, min(ROUNDS, sizes.rounds), plan)
    costs = {kind: [one.cpu_microseconds for one in rounds] for kind, rounds in results.items()}
    rows = [
        _row(
            f"{other.name} ÷ {CARILLON.name}, CPU per delivery", RATIO, ratios(costs[other], costs[CARILLON])
        )
        for other in (BARE, STOCK_PUBSUB, STOCK_CORE)
    ]
    for kind, publishes in plan.items():
        pace = f"{publishes.per_second * sizes.connections:,.0f} deliveries/s"
        bar = 8.0 if kind is CARILLON else None
        rows.append(_row(f"{kind.name}, CPU per delivery at {pace}", "µs", costs[kind], at_most=bar))
    return rows
