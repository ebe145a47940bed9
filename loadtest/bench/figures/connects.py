"""How many connects per second one core takes, each from its first packet until hello."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from loadtest.bench.client import Crowd
from loadtest.bench.figures import VERIFIED_SECONDS, Sizes
from loadtest.bench.processes import (
    CARILLON,
    STOCK_CORE,
    STOCK_PUBSUB,
    UPGRADE_ONLY,
    Kind,
    Server,
    Stage,
)
from loadtest.bench.report import RATIO, Row, ratios

PER_CONNECTION: Final = 4
"""Connects of a round, for each connection that the other figures have."""
STOCK_SHARE: Final = 8

_row = partial(Row, "connects")


@dataclass(frozen=True)
class Way:
    """One way in."""

    what: str
    kind: Kind
    by: str
    path: str
    count: int
    at_least: float | None = None


@dataclass(frozen=True)
class Round:
    """What one round took."""

    per_second: float
    cpu_microseconds: float


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Every way in, in turns."""
    count = PER_CONNECTION * sizes.connections
    few = max(1, count // STOCK_SHARE)
    ways = [
        Way(f"{CARILLON.name}, ticket", CARILLON, "ticket", CARILLON.idle_path, count, 8_000),
        Way(f"{CARILLON.name}, session", CARILLON, "session", CARILLON.idle_path, count, 2_500),
        Way(UPGRADE_ONLY.name, UPGRADE_ONLY, "ticket", "/", count),
    ]
    for stock in (STOCK_PUBSUB, STOCK_CORE):
        ways.append(Way(f"{stock.name}, anybody", stock, "ticket", stock.idle_path, few))
        ways.append(Way(f"{stock.name}, session", stock, "session", stock.signed_in_path, few))
    results = _in_turns(stage, ways, sizes.rounds)
    return [*_ratios(ways, results), *_figures(ways, results)]


def _in_turns(stage: Stage, ways: list[Way], rounds: int) -> Mapping[Way, list[Round]]:
    results: dict[Way, list[Round]] = {way: [] for way in ways}
    with ExitStack() as exits:
        servers = {
            server.kind: server
            for server in exits.enter_context(stage.running(*dict.fromkeys(way.kind for way in ways)))
        }
        for number in range(-1, rounds):  # the first warms up and is not counted
            for way in ways:
                one = _connect(servers[way.kind], way)
                if number >= 0:
                    results[way].append(one)
    return results


def _connect(server: Server, way: Way) -> Round:
    requests = server.requests(way.path, way.count, by=way.by)
    before = server.cpu_seconds()
    with Crowd() as crowd:
        seconds = crowd.open(server.port, requests)
        time.sleep(VERIFIED_SECONDS)  # which is the server's work, too
        cpu = server.cpu_seconds() - before
    server.settle()
    return Round(way.count / seconds, cpu / way.count * 1e6)


def _ratios(ways: list[Way], results: Mapping[Way, list[Round]]) -> list[Row]:
    ours, by_session, reference, *stock = ways
    pairs = [(ours, reference)]
    pairs += [(by_session if other.by == "session" else ours, other) for other in stock]
    return [
        _row(
            f"{above.what} ÷ {below.what}, connects",
            RATIO,
            ratios(_per_second(results[above]), _per_second(results[below])),
            by_cpu=ratios(_per_cpu_second(results[above]), _per_cpu_second(results[below])),
        )
        for above, below in pairs
    ]


def _figures(ways: list[Way], results: Mapping[Way, list[Round]]) -> list[Row]:
    rows = []
    for way in ways:
        rounds = results[way]
        rows += [
            _row(
                f"{way.what}, connects",
                "/s",
                _per_second(rounds),
                by_cpu=_per_cpu_second(rounds),
                at_least=way.at_least,
            ),
            _row(f"{way.what}, CPU per connect", "µs", [one.cpu_microseconds for one in rounds]),
        ]
    return rows


def _per_second(rounds: list[Round]) -> list[float]:
    return [one.per_second for one in rounds]


def _per_cpu_second(rounds: list[Round]) -> list[float]:
    return [1e6 / one.cpu_microseconds for one in rounds]
