"""All nodes are restarted, one after the other, while thousands are connected and talk."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Final

from loadtest.bench import wire
from loadtest.bench.figures import Sizes
from loadtest.bench.posting import endless, percentile
from loadtest.bench.processes import CARILLON, NAIVE_WORKER, ROOMS, Home, Kind, Stage
from loadtest.bench.report import RATIO, Row
from loadtest.bench.restarting import NODES, Nodes
from loadtest.bench.returning import Heard, Returning
from loadtest.bench.wire import WireError

PER_CONNECTION: Final = 5
"""People, for each connection that the other figures have."""
FEW: Final = 50
"""Rooms."""
PER_SECOND: Final = 200.0
STOCK_SHARE: Final = 10
"""The stock nodes' people say a tenth: more is beyond what their consumer delivers, restart or not."""
ROUNDS: Final = 3
BACK_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 120.0
CALM_SECONDS: Final = 3.0
LATE_SECONDS: Final = 10.0
"""What has not come so long after the last answer is lost."""

_row = partial(Row, "rolling")


@dataclass(frozen=True)
class Round:
    """All nodes once."""

    heard: Heard
    back: list[float]
    replies: list[float]
    most: float
    """Arrivals of one node in its busiest second."""
    headroom: float
    """The same, in terms of what its beacon had said."""

    @property
    def in_time(self) -> float:
        """Percent of losses."""
        return 100 * sum(seconds <= BACK_SECONDS for seconds in self.back) / len(self.back)


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Ours, then stock."""
    database, home = stage.durable()
    count, rounds = PER_CONNECTION * sizes.connections, min(ROUNDS, sizes.rounds)
    with Nodes(stage, CARILLON, home).running() as nodes:
        ours = _rounds(nodes, home, count, rounds, PER_SECOND)
    with Nodes(stage, NAIVE_WORKER, home).running() as nodes:
        stock = _rounds(nodes, home, count, rounds, PER_SECOND / STOCK_SHARE)
    database.check()
    stage.notes.append(
        f"rolling: {NODES} nodes on one core; {count:,} connections in {FEW} rooms, "
        f"{PER_SECOND:g} posts/s (stock: {PER_SECOND / STOCK_SHARE:g}); each of "
        f"{min(one.heard.expected for one in ours):,} (stock: {min(one.heard.expected for one in stock):,}) "
        "expected deliveries was looked at"
    )
    return [
        _row(
            f"{CARILLON.name}, busiest second of a node ÷ what its beacon said",
            RATIO,
            [one.headroom for one in ours],
            at_most=1,
        ),
        *_figures(CARILLON, ours, lost=0, in_time=99.9),
        *_figures(NAIVE_WORKER, stock),
    ]


def _figures(
    kind: Kind, rounds: list[Round], *, lost: float | None = None, in_time: float | None = None
) -> list[Row]:
    row = partial(_row_of, kind.name)
    return [
        row("acknowledged and not heard", "", [one.heard.lost for one in rounds], at_most=lost),
        row("heard twice", "", [one.heard.doubled for one in rounds], at_most=lost),
        # Without sequences nobody can say which order is right.
        *(
            [row("heard out of order", "", [one.heard.misordered for one in rounds], at_most=lost)]
            if kind is CARILLON
            else []
        ),
        row(f"back within {BACK_SECONDS:g} s", "%", [one.in_time for one in rounds], at_least=in_time),
        row("let go → back, p50", "ms", [percentile(one.back, 0.5) for one in rounds]),
        row("let go → back, p99", "ms", [percentile(one.back, 0.99) for one in rounds]),
        row("let go → back, the last", "ms", [1000 * max(one.back) for one in rounds]),
        row("reply to a post meanwhile, p99", "ms", [percentile(one.replies, 0.99) for one in rounds]),
        row("arrivals at one node in its busiest second", "/s", [one.most for one in rounds]),
    ]


def _row_of(
    name: str,
    what: str,
    unit: str,
    samples: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    return _row(f"{name}, restarts: {what}", unit, samples, at_least=at_least, at_most=at_most)


def _rounds(nodes: Nodes, home: Home, count: int, rounds: int, per_second: float) -> list[Round]:
    rooms = ROOMS[:FEW]
    sessions = islice(cycle(home.people), count)
    requests = [wire.request(nodes.kind.idle_path, nodes.port, session=one["session"]) for one in sessions]
    people = Returning(nodes.port, rooms, requests, endless(rooms))
    try:
        _wait(people, lambda: people.here == count, "not all came in")
        return [_round(nodes, people, per_second) for _ in range(rounds)]
    except WireError as error:
        tails = "\n".join(server.process.tail() for server in nodes.servers)
        raise WireError(f"{nodes.kind.name}: {error}\n{tails}") from error
    finally:
        people.close()


def _round(nodes: Nodes, people: Returning, per_second: float) -> Round:
    people.forget()
    nodes.told.clear()
    people.talk(per_second)
    people.go_on(lambda: False, CALM_SECONDS)
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(nodes.restart_all)
        while not people.go_on(restart.done, PATIENCE_SECONDS):
            pass  # whoever restarts them knows how long that may take
        restart.result()
    people.go_on(lambda: False, CALM_SECONDS)
    people.talk(0)
    _wait(people, lambda: people.here == len(people.people) and not people.under_way, "not all came back")
    people.go_on(people.complete, LATE_SECONDS)
    most, headroom = busiest(people.arrivals, nodes.told)
    return Round(people.judged(), list(people.back), list(people.reply_seconds), most, headroom)


def _wait(people: Returning, until: Callable[[], bool], failure: str) -> None:
    if not people.go_on(until, PATIENCE_SECONDS):
        raise WireError(
            f"{failure}: {people.here:,} of {len(people.people):,} are here, {people.under_way} posts open"
        )


def busiest(
    arrivals: Sequence[tuple[float, str]], told: Sequence[tuple[float, str, float]]
) -> tuple[float, float]:
    """The most arrivals of one node in a second; and at most how many times what it had told before."""
    seconds = Counter((name, int(at)) for at, name in arrivals)
    said: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for at, name, accepts in told:
        said[name].append((at, accepts))
    headroom = 0.0
    for (name, second), count in seconds.items():
        if said[name]:
            before = bisect_left(said[name], (second, 0.0))
            headroom = max(headroom, count / said[name][max(0, before - 1)][1])
    return max(seconds.values()), headroom
