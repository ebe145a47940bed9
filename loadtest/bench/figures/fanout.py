"""Fan-out with one write per delivery: every publish in a turn of the loop of its own."""

from functools import partial
from typing import Final

from loadtest.bench.figures import Sizes
from loadtest.bench.figures.publishing import Publishes, in_turns
from loadtest.bench.processes import BARE, CARILLON, STOCK_CORE, STOCK_PUBSUB, Stage
from loadtest.bench.report import RATIO, Row, ratios

PUBLISHES: Final = Publishes(100)
"""Some 10 KB for each connection: the kernel's buffers hold them, so no server waits for the client."""
STOCK_PUBLISHES: Final = Publishes(10)
"""As long as a hundred of the others take, and longer."""
_row = partial(Row, "fanout")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Ours, the bare loop and both stock layers, in turns."""
    plan = {
        CARILLON: PUBLISHES,
        BARE: PUBLISHES,
        STOCK_PUBSUB: STOCK_PUBLISHES,
        STOCK_CORE: STOCK_PUBLISHES,
    }
    results = in_turns(stage, sizes.connections, sizes.rounds, plan)
    told = {kind: [one.per_second for one in rounds] for kind, rounds in results.items()}
    heard = {kind: [one.received_per_second for one in rounds] for kind, rounds in results.items()}
    bars = {BARE: 0.85, STOCK_PUBSUB: 20.0, STOCK_CORE: 20.0}
    rows = []
    for other, bar in bars.items():
        rows.append(
            _row(
                f"{CARILLON.name} ÷ {other.name}, one write per delivery",
                RATIO,
                ratios(told[CARILLON], told[other]),
                ratios(heard[CARILLON], heard[other]),
                at_least=bar,
            )
        )
    for kind in plan:
        rows.append(_row(f"{kind.name}, one write per delivery", "deliveries/s", told[kind], heard[kind]))
    for kind in (CARILLON, BARE):
        # One write per delivery, proven: below 1 the server joined, or the kernel for a client that is late.
        segments = [one.segments_per_delivery for one in results[kind]]
        rows.append(_row(f"{kind.name}, TCP segments per delivery", "", segments))
    return rows
