"""docs/guarantees.md names the scenarios that there are, and says of each what the code says."""

import re
from pathlib import Path

from tests.failure.checker.scenarios import SCENARIOS
from tests.failure.planted.faults import FAULTS
from tests.failure.test_planted import EXPECTED

PAGE = (Path(__file__).parents[3] / "docs" / "guarantees.md").read_text()
PROMISES, TABLE, RULES = re.split(
    "^## (?:Scenarios|Rules)$", PAGE.partition("## Promises")[2], flags=re.MULTILINE
)


def rows(text: str) -> list[list[str]]:
    found = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in found if not row.startswith("---")][1:]


def row_of(name: str) -> str:
    """The line of the table that belongs to a scenario."""
    scenario = SCENARIOS[name]
    faults = ", ".join(f"`{fault}`" for played, fault in EXPECTED if played == name)
    selection = ", ".join(scenario.selection) or "–"
    cells = (f"`{name}`", scenario.title, ", ".join(scenario.databases), selection, faults or "–")
    return f"| {' | '.join(cells)} |"


def test_the_table_has_every_scenario_with_what_the_code_says_of_it() -> None:
    expected = [row_of(name) for name in SCENARIOS]
    found = [f"| {' | '.join(row)} |" for row in rows(TABLE)]
    assert found == expected, "\n".join(["docs/guarantees.md should have:", *expected])


def test_every_promise_names_scenarios_and_they_exist() -> None:
    promises = rows(PROMISES)
    assert promises
    for promise, proof, limits in promises:
        named = re.findall(r"`(\w+)`", proof)
        assert named or proof == "every scenario", promise
        assert not set(named) - SCENARIOS.keys(), promise
        assert limits, promise


def test_every_scenario_proves_a_promise() -> None:
    named = {name for _, proof, _ in rows(PROMISES) for name in re.findall(r"`(\w+)`", proof)}
    assert SCENARIOS.keys() - named == {"nothing_is_broken"}


def test_every_rule_names_tests_and_they_exist() -> None:
    tests = Path(__file__).parents[2].rglob("*.py")
    there = {name for test in tests for name in re.findall(r"def (test_\w+)\(", test.read_text())}
    assert rows(RULES)
    for rule, taken_out, seen_by in rows(RULES):
        named = re.findall(r"`(\w+)`", seen_by)
        assert named and taken_out, rule
        assert not set(named) - there - SCENARIOS.keys() - FAULTS.keys(), rule


def test_every_planted_fault_exists_and_is_played() -> None:
    played = {fault for _, fault in EXPECTED}
    played |= {fault for scenario in SCENARIOS.values() for fault in scenario.nodes.values()}
    played.add("release_after_next")  # in `roll_to_another_format`, as it goes on
    assert played == FAULTS.keys()
    assert {name for name, _ in EXPECTED} <= SCENARIOS.keys()
