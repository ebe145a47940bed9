"""Durable posts through one node on PostgreSQL, over many rooms and into one; how soon each is answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from loadtest.bench.database import Database
from loadtest.bench.figures import Sizes
from loadtest.bench.figures.gathering import gathered
from loadtest.bench.posting import Run
from loadtest.bench.processes import CARILLON, NAIVE, ROOMS, Server, Stage
from loadtest.bench.report import RATIO, Row, ratios

WARM_UP_SECONDS: Final = 2.0
ROUNDS: Final = 5
NAIVE_SHARE: Final = 5
"""The stock consumer has a fifth of the connections: more only wait."""
REPLY_MILLISECONDS: Final = 50

_row = partial(Row, "posts")


@dataclass
class Round:
    """Ours as fast as it goes, ours at half that rate, and batches of the same size without us."""

    full: Run
    half: Run
    node: float
    postgres: float
    batch: float
    bare: float
    bare_longest: float


@dataclass
class Way:
    """So many rooms."""

    rooms: int
    at_least: float
    rounds: list[Round] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For the table."""
        return "into one room" if self.rooms == 1 else f"over {self.rooms} rooms"

    def samples(self, figure: Callable[[Round], float]) -> list[float]:
        """One for each round."""
        return [figure(one) for one in self.rounds]


def measure(stage: Stage, sizes: Sizes) -> list[Row]:
    """Both ways in turns, and the naive one between them."""
    ways = [Way(len(ROOMS), 8_000), Way(1, 6_000)]
    naive: list[Run] = []
    database, home = stage.durable()
    with stage.running(CARILLON, NAIVE, home=home) as [ours, other]:
        for number in range(-1, min(ROUNDS, sizes.rounds)):  # the first warms up and is not counted
            seconds = sizes.seconds if number >= 0 else min(WARM_UP_SECONDS, sizes.seconds)
            for way in ways:
                rooms = ROOMS[: way.rooms]
                one = _round(stage, database, ours, posters=sizes.connections, rooms=rooms, seconds=seconds)
                if number >= 0:
                    way.rounds.append(one)
            posters = max(1, sizes.connections // NAIVE_SHARE)
            with gathered([other], ROOMS, posters) as gathering:
                run = gathering.run(seconds, proven=False)
                if number >= 0:
                    naive.append(run)
    database.check()
    return [
        *(_ratio_to_bare(way) for way in ways),
        _row(
            f"{CARILLON.name} ÷ {NAIVE.name}, posts {ways[0].name}",
            RATIO,
            ratios(ways[0].samples(lambda one: one.full.per_second), [run.per_second for run in naive]),
        ),
        *(row for way in ways for row in _figures(way)),
        _row(f"{NAIVE.name}, posts {ways[0].name}", "/s", [run.per_second for run in naive]),
    ]


def _round(
    stage: Stage, database: Database, server: Server, *, posters: int, rooms: list[str], seconds: float
) -> Round:
    with gathered([server], rooms, posters) as gathering:
        commits, _ = database.transactions()
        node, postgres = server.cpu_seconds(), database.cpu_seconds()
        full = gathering.run(seconds)
        node, postgres = server.cpu_seconds() - node, database.cpu_seconds() - postgres
        batch = len(full.answers) / max(1, database.transactions()[0] - commits)
        gathering.forget()
        half = gathering.run(seconds, full.per_second / 2)
    words = [database.url, str(seconds), str(max(1, round(batch))), *rooms]
    bare = stage.answer_of("batches", *words)
    return Round(
        full, half, node / full.seconds, postgres / full.seconds, batch, bare["per_second"], bare["longest"]
    )


def _ratio_to_bare(way: Way) -> Row:
    return _row(
        f"{CARILLON.name} ÷ bare batches into PostgreSQL, posts {way.name}",
        RATIO,
        way.samples(lambda one: one.full.per_second / one.bare),
    )


def _figures(way: Way) -> list[Row]:
    at_half = f"{CARILLON.name}, posts {way.name} at half that rate, reply"
    return [
        _row(
            f"{CARILLON.name}, posts {way.name}",
            "/s",
            way.samples(lambda one: one.full.per_second),
            by_cpu=way.samples(lambda one: one.full.per_second / one.node),
            at_least=way.at_least,
        ),
        _row(f"{at_half} p50", "ms", way.samples(lambda one: one.half.milliseconds(0.5))),
        _row(
            f"{at_half} p99",
            "ms",
            way.samples(lambda one: one.half.milliseconds(0.99)),
            at_most=REPLY_MILLISECONDS,
        ),
        _row(f"bare batches into PostgreSQL, posts {way.name}", "/s", way.samples(lambda one: one.bare)),
        _row(f"the longest of these batches, {way.name}", "ms", way.samples(lambda one: one.bare_longest)),
        _row(f"posts {way.name} in one transaction", "", way.samples(lambda one: one.batch)),
        _row(f"of one core by the node, {way.name}", "%", way.samples(lambda one: 100 * one.node)),
        _row(f"of one core by PostgreSQL, {way.name}", "%", way.samples(lambda one: 100 * one.postgres)),
        _row(f"of one core by the load, {way.name}", "%", way.samples(lambda one: 100 * one.full.cpu_share)),
    ]
