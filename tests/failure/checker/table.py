"""The table of a run: what each scenario came to, and the control's losses beside it, as Markdown."""

import os
import platform
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from loadtest.bench.machine import commit
from tests.failure.checker.judge import KINDS
from tests.failure.checker.scenarios import SCENARIOS

HEAD = """# Failures, {date}

Commit {commit}, by `make test-failure-all`. {machine}, Python {python}. Seeds: {seeds}.

- *Carillon*: {kinds}, in messages, over all rounds.
- *Stock*: the same load and fault through the tutorials' consumer on channels-redis, on its core and on its
  pub/sub layer: lost / doubled / out of order, of what a client could write to its connection. It
  acknowledges nothing and keeps nothing.

[guarantees.md](../guarantees.md) says what each scenario breaks.

"""

COLUMNS = """\
| scenario | database | rounds | acknowledged | deliveries | Carillon | said | core | said | pub/sub |
| --- | --- | ---: | ---: | ---: | --- | ---: | --- | ---: | --- |
"""

MEASURED = """
## Measured

How long it took; a measure, not a condition of the tests.

| figure | what | test |
| ---: | --- | --- |
"""

STOCK = {"core": "channels_redis", "pub/sub": "channels_redis_pubsub"}
"""The layers of the control, as the table and as `CHANNEL_LAYER` call them."""


@dataclass
class Line:
    """One scenario on one database."""

    rounds: int = 0
    acknowledged: int = 0
    deliveries: int = 0
    problems: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    stock: dict[str, dict[str, int]] = field(default_factory=dict)
    """Layer to what was counted there."""


FIGURE = "figure"
SEED = "seed"
FOUND = "found"
"""Properties of tests that belong into the table: a `Figure`, what the test was played with, and what the
checker found where a fault is planted (a text)."""

Figure = tuple[str, str, str, int]
"""Scenario, database (or a layer of `STOCK`), what was counted, how many."""

Measure = tuple[str, str, str]
"""Test, what was measured, the figure."""


def lines(figures: Iterable[Figure]) -> dict[tuple[str, str], Line]:
    """By scenario and database. The control has no database: its figures stand in each line."""
    found: dict[tuple[str, str], Line] = defaultdict(Line)
    stock: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for scenario, database, what, value in figures:
        if database in STOCK:
            stock[scenario][database][what] = value
            continue
        line = found[scenario, database]
        if what == "acknowledged":
            line.rounds += 1
            line.acknowledged += value
        elif what == "deliveries":
            line.deliveries += value
        else:
            line.problems[KINDS.index(what)] += value
    for (scenario, _), line in found.items():
        line.stock = stock.get(scenario, {})
    return found


def rows(figures: Iterable[Figure]) -> str:
    """The table of scenarios alone."""
    return COLUMNS + "\n".join(
        f"| `{scenario}` | {database} | {line.rounds} | {line.acknowledged} | {line.deliveries} |"
        f" {_counts(line.problems)} | {' | '.join(_stock(line.stock.get(layer)) for layer in STOCK)} |"
        for (scenario, database), line in sorted(lines(figures).items(), key=_place)
    )


def brief(figures: Iterable[Figure], seeds: Iterable[int]) -> str:
    """What a terminal shows: what the run was played with, what the numbers are, and the table."""
    return "\n".join(
        [
            f"Seeds: {_listed(seeds)}; SEED=… plays a run again.",
            f"Carillon: {' / '.join(KINDS)}, in messages. Stock (core, pub/sub): make test-failure-all.",
            "",
            rows(figures),
        ]
    )


def table(figures: Iterable[Figure], measures: Iterable[Measure], seeds: Iterable[int], now: datetime) -> str:
    """The whole page."""
    head = HEAD.format(
        date=f"{now:%Y-%m-%d}",
        commit=commit(),
        machine=f"{platform.system()} on {os.cpu_count()} cores",
        python=platform.python_version(),
        seeds=_listed(seeds),
        kinds=" / ".join(KINDS),
    )
    measured = [f"| {figure} | {what} | `{test}` |" for test, what, figure in measures]
    return "\n".join([head + rows(figures), MEASURED + "\n".join(measured), ""])


def save(text: str, folder: Path, now: datetime) -> Path:
    """Write it to `folder`; a later run of the same day takes its place."""
    path = folder / f"{now:%Y-%m-%d}-failure-journal.md"
    path.write_text(text)
    return path


def _place(item: tuple[tuple[str, str], Line]) -> tuple[str, int]:
    """However the tests were spread: one database after the other, scenarios as they stand in the code."""
    (scenario, database), _ = item
    return database, list(SCENARIOS).index(scenario)


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(seeds))))


def _counts(numbers: Iterable[int]) -> str:
    return " / ".join(map(str, numbers))


def _stock(told: dict[str, int] | None) -> str:
    if told is None:
        return "– | –"
    return f"{told['said']} | {_counts(told[what] for what in ('lost', 'doubled', 'disordered'))}"
