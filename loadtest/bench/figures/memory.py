"""What one idle connection, open and known by name, adds to the server's resident memory."""

import time
from functools import partial
from typing import Final

from loadtest.bench import wire
from loadtest.bench.client import Crowd
from loadtest.bench.figures import VERIFIED_SECONDS, Sizes
from loadtest.bench.processes import CARILLON, STOCK_CORE, STOCK_PUBSUB, Server, Stage
from loadtest.bench.report import RATIO, Row, ratios

STOCK_SHARE: Final = 10
"""Stock servers get one connection in ten: a thousand, and they take some time to open."""
ROUNDS: Final = 3
"""Each with a fresh server: memory that an earlier crowd left behind would be free."""
ANSWER_SECONDS: Final = 30.0

_PING: Final = wire.command(1, "ping", {})
_PONG: Final = b'{"id":1,"reply":{}}'

_row = partial(Row, "memory")


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Ours at its size, both stock layers at a tenth of it."""
    few = max(1, sizes.idle // STOCK_SHARE)
    silent, heard, pubsub, core = (list[float]() for _ in range(4))
    for _ in range(min(ROUNDS, sizes.rounds)):
        with stage.running(CARILLON) as [server], Crowd() as crowd:
            before = server.resident_kib()
            silent.append(_opened(server, crowd, sizes.idle, before))
            # A browser's connection sends a ping now and then; from the first one on the node keeps a parser.
            crowd.ask(_PING, _PONG, ANSWER_SECONDS)
            heard.append((server.resident_kib() - before) / len(crowd))
        for kind, results in ((STOCK_PUBSUB, pubsub), (STOCK_CORE, core)):
            with stage.running(kind) as [server], Crowd() as crowd:
                results.append(_opened(server, crowd, few, server.resident_kib()))
    ours = CARILLON.name
    return [
        _row(f"{STOCK_PUBSUB.name} ÷ {ours}, idle connection", RATIO, ratios(pubsub, silent)),
        _row(f"{STOCK_CORE.name} ÷ {ours}, idle connection", RATIO, ratios(core, silent)),
        _row(f"{ours}, one of {sizes.idle:,} idle connections", "KiB", silent, at_most=16.0),
        _row(f"{ours}, the same once it has sent a ping", "KiB", heard, at_most=16.0),
        _row(f"{STOCK_PUBSUB.name}, one of {few:,} idle connections", "KiB", pubsub),
        _row(f"{STOCK_CORE.name}, one of {few:,} idle connections", "KiB", core),
    ]


def _opened(server: Server, crowd: Crowd, count: int, before: int) -> float:
    """KiB that each of `count` new connections takes, beyond the `before` of an empty server."""
    crowd.open(server.port, server.requests(server.kind.idle_path, count))
    time.sleep(VERIFIED_SECONDS)
    return (server.resident_kib() - before) / count
