"""What is expected comes from the senders' records; whatever came otherwise is a fault with a name."""

import msgspec
import pytest

from loadtest.proof.account import Account, Book, Line
from loadtest.proof.judge import Finding, judge
from tests.unit.loadtest.books import ROOM, book, hear, listener, said


def found(*books: Book) -> Finding:
    (finding,) = judge(books).values()
    return finding


def heard(*sequences: int, after: int = 0) -> Finding:
    """Of five messages that Ada said on node-1, these came to Bob on node-2."""
    account = Account()
    for sequence in range(1, 6):
        account.say(said(sequence))
    bob = listener("bob", "node-2", after)
    account.listeners.append(bob)
    hear(account, bob, *sequences)
    return found(book(account))


def test_what_came_to_all_who_had_joined_is_no_fault() -> None:
    finding = heard(1, 2, 3, 4, 5)
    assert not finding.faults
    assert finding.expected == finding.delivered == {("node-1", "node-2"): 5}


def test_what_was_said_before_somebody_joined_is_not_expected() -> None:
    assert heard(4, 5, after=3).expected.total() == 2


@pytest.mark.parametrize(
    ("came", "faults"),
    [
        pytest.param([], {"lost": 5}, id="nothing"),
        pytest.param([1, 2, 4, 5], {"lost": 1}, id="one is missing"),
        pytest.param([1, 2, 3, 4], {"lost": 1}, id="the last is missing"),
        pytest.param([1, 2, 2, 3, 4, 5], {"doubled": 1}, id="twice at once"),
        pytest.param([1, 2, 3, 4, 5, 2], {"doubled": 1}, id="twice, much later"),
        pytest.param([1, 3, 2, 4, 5], {"misordered": 1}, id="swapped"),
        pytest.param([1, 2, 9, 4, 5], {"lost": 1, "misordered": 2}, id="a wrong sequence"),
    ],
)
def test_each_fault_has_its_name(came: list[int], faults: dict[str, int]) -> None:
    finding = heard(*came)
    assert finding.faults == faults
    assert finding.examples[0].split(":")[0] in faults


def test_what_somebody_got_again_from_before_they_joined_came_twice() -> None:
    assert heard(3, 4, 5, after=3).faults == {"doubled": 1}


def test_a_senders_echo_is_no_delivery() -> None:
    account = Account()
    account.say(said(1, by="ada"))
    ada = listener("ada", "node-1")
    account.listeners.append(ada)
    hear(account, ada, 1)
    finding = found(book(account))
    assert (finding.expected.total(), finding.delivered.total(), finding.frames) == (0, 0, 1)


@pytest.mark.parametrize("altered_first", [True, False])
def test_an_altered_text_is_noticed_whoever_of_a_process_got_it_first(altered_first: bool) -> None:
    account = Account()
    account.say(said(1))
    bob, eve = listener("bob", "node-2"), listener("eve", "node-3")
    account.listeners += [bob, eve]
    if altered_first:
        hear(account, eve, 1, text="something else")
    hear(account, bob, 1)
    if not altered_first:
        hear(account, eve, 1, text="something else")
    finding = found(book(account))
    assert finding.faults == {"altered": 1}
    assert finding.delivered == {("node-1", "node-2"): 1}


def test_what_one_process_said_another_has_to_hear() -> None:
    speaking, hearing = Account(), Account()
    speaking.say(said(1))
    hearing.listeners.append(listener("bob", "node-2"))
    assert found(book(speaking), book(hearing)).faults == {"lost": 1}
    hear(hearing, hearing.listeners[0], 1)
    assert not found(book(speaking), book(hearing)).faults


def test_whoever_left_is_not_expected_to_have_heard_what_came_later() -> None:
    account = Account()
    account.say(said(1))
    account.say(said(2))
    bob = listener("bob", "node-2")
    account.listeners.append(bob)
    hear(account, bob, 1)
    bob.until = 1
    assert not found(book(account)).faults


def test_the_markers_of_somebody_never_heard_are_lost_too() -> None:
    account = Account()
    of_ada = Line("marker", "load", 0, "ada")
    account.say(said(1, line=of_ada))
    account.listeners.append(listener("bob", "node-2", line=of_ada))
    assert found(book(account)).faults == {"lost": 1}


def test_another_life_of_a_stream_has_nothing_to_do_with_this_one() -> None:
    account = Account()
    account.say(said(1))
    account.listeners.append(listener("bob", "node-2", line=ROOM._replace(epoch=8)))
    assert found(book(account)).expected.total() == 0


def test_an_account_told_in_pieces_and_over_a_wire_is_the_same_account() -> None:
    account, told = Account(), Book()
    bob = listener("bob", "node-2")
    account.listeners.append(bob)
    for sequence in (1, 2, 3):
        account.say(said(sequence))
        hear(account, bob, sequence)
        told.merge(msgspec.msgpack.decode(msgspec.msgpack.encode(account.news())))
    assert found(told).delivered == {("node-1", "node-2"): 3}
