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

HEAD = """# Failures, {date}

Commit {commit}, by `make test-failure-all`. {machine}, Python {python}. Seeds: {seeds}.

- *Carillon*: lost / doubled / out of order / shown to the wrong person / different from the database, in
  messages, over all rounds.
- *Stock*: the same load and fault through the tutorials' consumer on channels-redis: lost / doubled / out of
  order, of what a client could write to its connection. It acknowledges nothing and keeps nothing.

[guarantees.md](../guarantees.md) says what each scenario breaks.

| scenario | database | rounds | acknowledged | deliveries | Carillon | stock: said | stock |
| --- | --- | ---: | ---: | ---: | --- | ---: | --- |
"""


@dataclass
class Line:
    """One scenario on one database."""

    rounds: int = 0
    acknowledged: int = 0
    deliveries: int = 0
    problems: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    said: int = 0
    stock: list[int] | None = None


FIGURE = "figure"
SEED = "seed"
"""Properties of tests that belong into the table: a `Figure`, and what the test was played with."""

Figure = tuple[str, str, str, int]
"""Scenario, database (or `stock`), what was counted, how many."""


def lines(figures: Iterable[Figure]) -> dict[tuple[str, str], Line]:
    """By scenario and database. The control has no database: its figures stand in each line."""
    found: dict[tuple[str, str], Line] = defaultdict(Line)
    stock: dict[str, dict[str, int]] = {}
    for scenario, database, what, value in figures:
        if database == "stock":
            stock.setdefault(scenario, {})[what] = value
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
        if scenario in stock:
            told = stock[scenario]
            line.said = told["said"]
            line.stock = [told["lost"], told["doubled"], told["disordered"]]
    return found


def table(figures: Iterable[Figure], seeds: Iterable[int], now: datetime) -> str:
    """The whole page."""
    rows = [
        f"| `{scenario}` | {database} | {line.rounds} | {line.acknowledged} | {line.deliveries} |"
        f" {_counts(line.problems)} | {line.said if line.stock else '–'} | {_counts(line.stock)} |"
        for (scenario, database), line in lines(figures).items()
    ]
    head = HEAD.format(
        date=f"{now:%Y-%m-%d}",
        commit=commit(),
        machine=f"{platform.system()} on {os.cpu_count()} cores",
        python=platform.python_version(),
        seeds=", ".join(map(str, sorted(set(seeds)))),
    )
    return head + "\n".join([*rows, ""])


def save(text: str, folder: Path, now: datetime) -> Path:
    """Write it to `folder`; a later run of the same day takes its place."""
    path = folder / f"{now:%Y-%m-%d}-failure-journal.md"
    path.write_text(text)
    return path


def _counts(numbers: list[int] | None) -> str:
    return "–" if numbers is None else " / ".join(map(str, numbers))
