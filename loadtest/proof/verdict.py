"""What was measured against what was asked for: one row for each rule, and the exit code that follows.

A rule that was not measured is broken: nothing passes by being absent.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

THRESHOLDS: Final = Path(__file__).with_name("thresholds.toml")
HELD, BROKEN, NO_DATA = 0, 1, 3
"""Exit codes."""

Measured = Mapping[str, float | None]


class BadThresholds(ValueError):
    """The file of thresholds is not as it has to be; the text says where."""


@dataclass(frozen=True)
class Rule:
    """`least` <= what was measured <= `most`; None: no such end."""

    name: str
    least: float | None
    most: float | None

    def holds(self, value: float | None) -> bool:
        """Whether it does. Not measured: no."""
        return (
            value is not None
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )

    @property
    def wanted(self) -> str:
        """The threshold in words."""
        if self.least == self.most and self.least is not None:
            return _number(self.least)
        if self.most is None:
            return f"at least {_number(self.least)}"
        return f"at most {_number(self.most)}"


@dataclass(frozen=True)
class Row:
    """A rule, what was measured, whether it held."""

    rule: Rule
    value: float | None

    @property
    def held(self) -> bool:
        return self.rule.holds(self.value)

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """For a table: verdict, rule, measured, wanted."""
        verdict = "held" if self.held else "BROKEN"
        return verdict, self.rule.name, _number(self.value), self.rule.wanted


@dataclass(frozen=True)
class Verdict:
    """All rows; `expected` deliveries: without any there is nothing to judge."""

    rows: list[Row]
    expected: int

    @property
    def broken(self) -> list[str]:
        """Names of the rules that did not hold."""
        return [row.rule.name for row in self.rows if not row.held]

    @property
    def code(self) -> int:
        """What the process ends with."""
        if not self.expected:
            return NO_DATA
        return BROKEN if self.broken else HELD


def rules_of(scenario: str, text: str) -> list[Rule]:
    """The rules of a scenario in a file of thresholds. Raises `BadThresholds`."""
    tables = tomllib.loads(text)
    merged = {**tables["default"], **tables.get(scenario, {})}
    return [_rule(name, ends) for name, ends in merged.items() if ends is not False]


def verdict(rules: Iterable[Rule], measured: Measured, expected: int) -> Verdict:
    """Each rule against what was measured under its name."""
    return Verdict([Row(rule, measured.get(rule.name)) for rule in rules], expected)


def _rule(name: str, ends: object) -> Rule:
    match ends:
        case [int() | float() | "" as least, int() | float() | "" as most] if least != "" or most != "":
            return Rule(name, None if least == "" else float(least), None if most == "" else float(most))
    raise BadThresholds(f'{name}: expected [least, most] with "" for no end, or false, got {ends!r}')


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
