"""What Locust's page gets beside its own statistics."""

from loadtest.proof.account import Account
from loadtest.proof.judge import Finding, judge
from loadtest.proof.verdict import Rule, Verdict, verdict
from loadtest.web_page import rows
from tests.unit.loadtest.books import book, hear, listener, said


class Judged:
    def __init__(self, findings: dict[str, Finding], verdict: Verdict | None = None) -> None:
        self.verdict = verdict
        self._findings = findings

    def findings_so_far(self) -> dict[str, Finding]:
        return self._findings


def test_the_page_has_deliveries_and_loss_of_all_and_of_each_pair() -> None:
    account = Account()
    account.say(said(1))
    account.say(said(2))
    account.listeners.append(listener("bob", "node-2"))
    hear(account, account.listeners[0], 1)
    total, pair = rows(Judged(judge([book(account)])))["deliveries"]
    assert (total["expected"], total["delivered"], total["lost"]) == (2, 1, 1)
    assert (pair["source"], pair["target"], pair["expected"], pair["delivered"]) == ("node-1", "node-2", 2, 1)


def test_the_page_has_the_verdict_when_there_is_one() -> None:
    assert rows(Judged({}))["verdict"] == []
    (row,) = rows(Judged({}, verdict([Rule("messages_lost", 0, 0)], {"messages_lost": 3}, 5)))["verdict"]
    assert row == {"verdict": "BROKEN", "rule": "messages_lost", "measured": "3", "wanted": "0"}


def test_what_was_said_a_moment_ago_is_not_missing_yet() -> None:
    account = Account()
    account.listeners.append(listener("bob", "node-2"))
    account.say(said(1))
    one = book(account)
    account.say(said(2))
    one.merge(account.news(), at=100.0)
    assert judge([one], before=99.0)["message"].faults == {"lost": 1}
    assert judge([one], before=100.0)["message"].faults == {"lost": 2}
