"""Each rule of the file against what was measured, and the exit code that follows."""

import tomllib
from pathlib import Path

import pytest

from loadtest.node_metrics import growth
from loadtest.proof.account import Account
from loadtest.proof.measures import measure
from loadtest.proof.verdict import BROKEN, HELD, NO_DATA, THRESHOLDS, BadThresholds, Rule, rules_of, verdict
from loadtest.report import lines
from tests.unit.loadtest.books import book, listener, said

NONE_LOST = Rule("messages_lost", 0, 0)


@pytest.mark.parametrize(
    ("value", "expected", "code"),
    [(0, 10, HELD), (1, 10, BROKEN), (None, 10, BROKEN), (0, 0, NO_DATA), (1, 0, NO_DATA)],
)
def test_the_exit_code_says_held_broken_or_no_data(value: float | None, expected: int, code: int) -> None:
    assert verdict([NONE_LOST], {"messages_lost": value}, expected).code == code


def test_what_was_not_measured_is_broken() -> None:
    judged = verdict([NONE_LOST], {}, 1)
    assert judged.broken == ["messages_lost"]
    assert "BROKEN: messages_lost" in lines(judged, {})


def test_the_table_names_each_rule_and_whether_it_held() -> None:
    judged = verdict(
        [NONE_LOST, Rule("remote_p95_ms", 0, 250)], {"messages_lost": 0, "remote_p95_ms": 251}, 1
    )
    shown = [line.split() for line in lines(judged, {})]
    assert ["held", "messages_lost", "0", "0"] in shown
    assert ["BROKEN", "remote_p95_ms", "251", "at", "most", "250"] in shown


def test_a_run_that_could_not_begin_says_why() -> None:
    assert lines(None, {}, "nobody answers") == ["NO DATA: nobody answers"]


def test_a_scenario_adds_changes_and_takes_away_rules() -> None:
    text = "[default]\na = [0, 0]\nb = [1, '']\nc = ['', 2]\n[spike]\na = [0, 5]\nb = false\nd = [1, 1]\n"
    assert rules_of("spike", text) == [Rule("a", 0, 5), Rule("c", None, 2), Rule("d", 1, 1)]
    assert [rule.name for rule in rules_of("another", text)] == ["a", "b", "c"]


@pytest.mark.parametrize("ends", ["0", "[0]", "['', '']", "true", "['a', 1]"])
def test_a_threshold_that_is_none_is_refused(ends: str) -> None:
    with pytest.raises(BadThresholds, match="lost"):
        rules_of("any", f"[default]\nlost = {ends}\n")


def test_each_rule_of_the_file_is_measured_by_something_and_documented() -> None:
    elsewhere = {"remote_p95_ms", "remote_p99_ms", "disturbance_failed"}
    measured = measure([], {}, target_users=1, expect_nodes=1, accounts_missing=0)
    known = measured.keys() | growth({}, {}, 1).keys() | elsewhere
    text = THRESHOLDS.read_text()
    asked = {rule.name for scenario in tomllib.loads(text) for rule in rules_of(scenario, text)}
    assert not asked - known
    page = (Path(__file__).parents[3] / "docs" / "load-testing.md").read_text()
    assert not {name for name in asked if f"`{name}`" not in page}


def test_who_was_to_speak_and_never_did_is_silent() -> None:
    account = Account()
    account.senders |= {"ada", "bob"}
    account.listeners.append(listener("bob", "node-2"))
    account.say(said(1, by="ada"))
    measured = measure([book(account)], {}, target_users=2, expect_nodes=2, accounts_missing=0)
    assert (measured["silent_senders"], measured["users_missing"]) == (1, 2)
