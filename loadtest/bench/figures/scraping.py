"""How long a look at the metrics of a full node holds up its event loop."""

import time
from functools import partial
from typing import Final

from loadtest.bench.client import Crowd
from loadtest.bench.figures import VERIFIED_SECONDS, Sizes
from loadtest.bench.processes import CARILLON, Server, Stage
from loadtest.bench.report import Row

SCRAPES: Final = 20
"""Of each round, one after the other."""
TURNS_SECONDS: Final = 0.3
"""How long the loop is watched around each."""

_row = partial(Row, "scraping")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """The longest turn of the loop with a scrape in it, and without one."""
    held, free, took, cpu = (list[float]() for _ in range(4))
    with stage.running(CARILLON) as [server], Crowd() as crowd:
        crowd.open(server.port, server.requests(CARILLON.idle_path, sizes.idle))
        time.sleep(VERIFIED_SECONDS)
        assert server.control is not None
        for _ in range(SCRAPES * sizes.rounds):
            free.append(1_000 * server.control.ask("bench.turns", span=TURNS_SECONDS)["longest"])
            server.control.tell("bench.turns", span=TURNS_SECONDS)
            took.append(1_000 * _scrape(server))
            held.append(1_000 * server.control.reply(30.0)["longest"])
            before = server.cpu_seconds()
            _scrape(server)
            cpu.append(1_000 * (server.cpu_seconds() - before))
    what = f"with {sizes.idle:,} connections"
    return [
        _row(f"longest turn of the loop during a scrape, {what}", "ms", held, at_most=20.0),
        _row(f"longest turn without one, {what}", "ms", free),
        _row(f"a scrape of a busy loop, {what}", "ms", took),
        _row(f"CPU of a scrape, {what}", "ms", cpu),
    ]


def _scrape(server: Server) -> float:
    """Seconds."""
    began = time.perf_counter()
    if "carillon_unsent_bytes 0.0" not in server.metrics():
        raise RuntimeError("the page does not say what an idle node has not sent")
    return time.perf_counter() - began
