"""What idle connections take of a node, step by step, up to as many as the machine lets it have."""

import re
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Final

from loadtest.bench import machine, wire
from loadtest.bench.client import Crowd
from loadtest.bench.figures import VERIFIED_SECONDS, Sizes
from loadtest.bench.processes import CARILLON, Server, Stage
from loadtest.bench.report import Row

STEPS: Final = (0.1, 0.5, 1.0, 1.5, 2.0)
"""Of the connections that the memory figure has."""
ROUNDS: Final = 3
"""Each with a fresh server."""
PING_SECONDS: Final = 25
"""As the setting comes. Each step is looked at for so long: every connection is pinged once."""
SLICE_SECONDS: Final = 5.0
RESERVED: Final = 256
"""Files that a node keeps for everything else, as DESCRIPTORS_RESERVED comes."""

# Thousands come at once, on a machine that others may use as well: a node that is late takes them too.
PINGED: Final = replace(CARILLON, environment={"PING_SECONDS": str(PING_SECONDS), "REFUSE_LAG_SECONDS": "60"})

_BUCKET: Final = re.compile(r'^carillon_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)
_FILES: Final = re.compile(r"^process_open_fds (\S+)$", re.MULTILINE)

_row = partial(Row, "scaling")


@dataclass(frozen=True)
class Step:
    """So many connections, for so long."""

    mebibytes: float
    kibibytes_each: float
    cpu_percent: float
    lag_p50: float
    lag_p99: float
    lag_most: float
    """Milliseconds: the upper end of the metric's bucket."""
    files: float


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """All steps of one node, then the same of the next."""
    places = machine.files_limit() - RESERVED - 1  # one is the bench's own
    counts = sorted({min(places, round(share * sizes.idle)) for share in STEPS})
    rounds = [_round(stage, counts, places) for _ in range(min(ROUNDS, sizes.rounds))]
    rows = []
    for count, steps in zip(counts, zip(*rounds, strict=True), strict=True):
        for what, unit, samples in (
            ("memory", "MiB", [one.mebibytes for one in steps]),
            ("memory for each", "KiB", [one.kibibytes_each for one in steps]),
            ("CPU", "% of a core", [one.cpu_percent for one in steps]),
            ("loop lag p50, at most", "ms", [one.lag_p50 for one in steps]),
            ("loop lag p99, at most", "ms", [one.lag_p99 for one in steps]),
            ("loop lag ever, at most", "ms", [one.lag_most for one in steps]),
            ("open files", "", [one.files for one in steps]),
        ):
            rows.append(_row(f"{count:,} idle connections: {what}", unit, samples))
    return rows


def _round(stage: Stage, counts: list[int], places: int) -> list[Step]:
    with stage.running(PINGED) as [server], Crowd() as crowd:
        empty = server.resident_kib()
        steps = []
        for count in counts:
            more = count - len(crowd)
            crowd.open(server.port, server.requests(PINGED.idle_path, more, by="session"))
            crowd.stay(VERIFIED_SECONDS)
            steps.append(_step(server, crowd, empty))
        if len(crowd) == places:
            _refused(server)
        return steps


def _step(server: Server, crowd: Crowd, empty: int) -> Step:
    before, cpu, began = server.metrics(), server.cpu_seconds(), time.perf_counter()
    for _ in range(round(PING_SECONDS / SLICE_SECONDS)):
        crowd.stay(SLICE_SECONDS)
        assert server.control is not None
        server.control.ask("ping")  # it says nothing else to a ping
    share = (server.cpu_seconds() - cpu) / (time.perf_counter() - began)
    page = server.metrics()
    lags = _lags(before, page)
    [files] = _FILES.findall(page)
    resident = server.resident_kib()
    return Step(
        resident / 1024,
        (resident - empty) / len(crowd),
        100 * share,
        _within(lags, 0.5),
        _within(lags, 0.99),
        _within(lags, 1.0),
        float(files),
    )


def _refused(server: Server) -> None:
    """One more is one too many, and is told so. Raises `WireError` if it is not."""
    with Crowd() as one:
        try:
            one.open(server.port, server.requests(PINGED.idle_path, 1, by="session"))
        except wire.WireError as error:
            if "503" not in str(error) or "descriptors" not in str(error):
                raise
        else:
            raise wire.WireError(f"one more than {machine.files_limit() - RESERVED:,} was let in")


def _lags(before: str, after: str) -> list[tuple[float, float]]:
    """How often the loop was late by at most so many ms and by more than the one before, meanwhile."""
    counts = [
        (1000 * float(bound), float(now) - float(then))
        for (bound, now), (_, then) in zip(_BUCKET.findall(after), _BUCKET.findall(before), strict=True)
    ]
    return [counts[0], *((bound, upto - less) for (_, less), (bound, upto) in pairwise(counts))]


def _within(lags: list[tuple[float, float]], share: float) -> float:
    """The bucket's end within which so much of them were."""
    wanted, seen = share * sum(count for _, count in lags), 0.0
    for bound, count in lags:
        seen += count
        if count and seen >= wanted:
            return bound
    raise wire.WireError("the node did not look at its loop")
