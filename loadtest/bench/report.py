"""What a run found, as one table: ratios first, each figure with the command that repeats it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

RATIO: Final = "×"


@dataclass(frozen=True)
class Row:
    """One figure, with one sample for each round.

    `heard` and `by_cpu` are the same rounds by the client's clock, and for each second of the server's CPU.
    `at_least` and `at_most` are the bars of docs/benchmarks.md.
    """

    figure: str
    what: str
    unit: str
    samples: Sequence[float]
    heard: Sequence[float] = ()
    by_cpu: Sequence[float] = ()
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """The figure: half of the rounds were better, half were worse."""
        return median(self.samples)

    @property
    def bar(self) -> str:
        """What is to be reached, and whether it is; empty without a bar."""
        if self.at_least is not None:
            return f"≥ {self.at_least:,g} {'reached' if self.median >= self.at_least else 'missed'}"
        if self.at_most is not None:
            return f"≤ {self.at_most:,g} {'reached' if self.median <= self.at_most else 'missed'}"
        return ""

    @property
    def command(self) -> str:
        """What measures it again."""
        return f"make bench ONLY={self.figure}"

    def cells(self) -> tuple[str, ...]:
        """One line of the table."""
        low, high = _number(min(self.samples)), _number(max(self.samples))
        spread = f"{low} – {high} ({len(self.samples)})"
        others = (_number(median(samples)) if samples else "" for samples in (self.heard, self.by_cpu))
        return (
            self.what,
            f"{_number(self.median)} {self.unit}".rstrip(),
            spread,
            *others,
            self.bar,
            self.command,
        )


HEADINGS: Final = ("what", "median", "min – max (rounds)", "by client's clock", "by CPU", "bar", "again with")
WIDTH: Final = 160
"""Of the table where no terminal says how wide it is: a log, a pipe."""


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Round by round: both sides of one ratio had the machine in the same seconds."""
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Ratios first, each kind in the order of measuring."""
    return sorted(rows, key=lambda row: row.unit != RATIO)


def show(rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Write the table to the terminal."""
    table = Table(*HEADINGS)
    for column in (1, 2, 3, 4, 5):
        table.columns[column].justify = "right"
    for row in in_order(rows):
        table.add_row(*row.cells(), end_section=row is _last_ratio(rows))
    table.columns[-1].no_wrap = True
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)


def markdown(rows: Sequence[Row], notes: Sequence[str], day: date, commit: str) -> str:
    """The same as a page for docs/results/."""
    lines = [
        f"# Benchmark of {day.isoformat()}",
        "",
        f"Commit {commit}. `../benchmarks.md` says what each figure means.",
        "",
    ]
    lines += [f"- {note}" for note in notes]
    lines += ["", _line(HEADINGS), "| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in in_order(rows):
        *cells, command = row.cells()
        lines.append(_line([*cells, f"`{command}`"]))
    return "\n".join([*lines, ""])


def _last_ratio(rows: Sequence[Row]) -> Row | None:
    return next((row for row in reversed(rows) if row.unit == RATIO), None)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    """Three digits that count, and all of a whole number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
