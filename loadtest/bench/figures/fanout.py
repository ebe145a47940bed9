"""Fan-out with one write per delivery: every publish in a turn of the loop of its own."""

from functools import partial
from typing import Final

from loadtest.bench.figures import Sizes
from loadtest.bench.figures.publishing import Publishes, in_turns, rate, rate_ratio
from loadtest.bench.processes import BARE, CARILLON, STOCK_CORE, STOCK_PUBSUB, Stage
from loadtest.bench.report import Row

PUBLISHES: Final = Publishes(100)
"""Some 10 KB for each connection: the kernel's buffers hold them, so no server waits for the client."""
STOCK_PUBLISHES: Final = Publishes(10)
"""As long as a hundred of the others take, and longer."""
PLAN: Final = {
    CARILLON: PUBLISHES,
    BARE: PUBLISHES,
    STOCK_PUBSUB: STOCK_PUBLISHES,
    STOCK_CORE: STOCK_PUBLISHES,
}
BARS: Final = {BARE: 0.85, STOCK_PUBSUB: 20.0, STOCK_CORE: 20.0}
WHAT: Final = "one write per delivery"

_row = partial(Row, "fanout")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Ours, the bare loop and both stock layers, in turns."""
    results = in_turns(stage, sizes.connections, sizes.rounds, PLAN)
    rows = [rate_ratio(_row, WHAT, (CARILLON, other), results, at_least=bar) for other, bar in BARS.items()]
    rows += [rate(_row, WHAT, kind, results) for kind in PLAN]
    for kind in (CARILLON, BARE):
        # One write per delivery, proven: below 1 the server joined, or the kernel for a client that is late.
        segments = [one.segments_per_delivery for one in results[kind]]
        rows.append(_row(f"{kind.name}, TCP segments per delivery", "", segments))
    return rows
