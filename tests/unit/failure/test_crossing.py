"""How long messages took from node to node, of a record in which every figure is known."""

from tests.failure.checker.crossing import crossing_seconds
from tests.failure.checker.record import POSTED, Account, Answer, Asked, Received, Stay

EPOCH = 7
ROOM = "room.lobby"


def posted(sequence: int, at: float) -> Asked:
    answer = Answer(at, "node-1", EPOCH, sequence)
    return Asked(ROOM, POSTED, f"k{sequence}", "ada", "ada's", at - 0.1, answers=[answer])


def stay(node: str, *received: tuple[int, float], began: float = 0.0, epoch: int = EPOCH) -> Stay:
    events = [Received(sequence, POSTED, f"k{sequence}", at) for sequence, at in received]
    return Stay(ROOM, node, began, epoch, 0, events)


def test_every_receipt_on_another_node_counts_from_the_answer() -> None:
    ada = Account("ada's", "ada", [posted(1, 10.0), posted(2, 11.0)], [stay("node-1", (1, 10.5), (2, 11.5))])
    bob = Account("bob's", "bob", stays=[stay("node-2", (1, 10.25), (2, 12.0))])
    cyd = Account("cyd's", "cyd", stays=[stay("node-3", (1, 9.5))])
    assert crossing_seconds([ada, bob, cyd], 0.0, 20.0) == [0.0, 0.25, 1.0]


def test_only_what_was_answered_in_that_time_counts() -> None:
    ada = Account("ada's", "ada", [posted(1, 10.0), posted(2, 11.0), posted(3, 12.0)])
    bob = Account("bob's", "bob", stays=[stay("node-2", (1, 10.5), (2, 11.25), (3, 12.5))])
    assert crossing_seconds([ada, bob], 10.5, 11.5) == [0.25]


def test_who_was_away_or_in_another_life_says_nothing_of_the_way() -> None:
    ada = Account("ada's", "ada", [posted(1, 10.0)])
    late = Account("bob's", "bob", stays=[stay("node-2", (1, 15.0), began=14.0)])
    other = Account("cyd's", "cyd", stays=[stay("node-2", (1, 10.5), epoch=8)])
    assert crossing_seconds([ada, late, other], 0.0, 20.0) == []
