"""When the load tests' clients come back."""

import random

import pytest

from loadtest.waits import FIRST_SECONDS, LAST_SECONDS, LONGEST_HINT_SECONDS, Waits, told


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("86400", LONGEST_HINT_SECONDS), (None, None), ("Sat, 21 Nov 2026 20:00:00 GMT", None)],
)
def test_a_header_is_taken_at_its_word_if_it_says_seconds(header: str | None, seconds: float | None) -> None:
    assert told(header) == seconds


def test_nobody_comes_earlier_than_the_node_said_nor_all_at_once() -> None:
    chance = random.Random(3)
    waits = [Waits(chance.random).refused(5.0) for _ in range(200)]
    assert min(waits) >= 5
    assert max(waits) <= 5 + FIRST_SECONDS
    assert len(set(waits)) == 200


def test_who_is_told_nothing_comes_less_and_less_often_until_it_works() -> None:
    waits = Waits(lambda: 1.0)
    assert [waits.refused(None) for _ in range(6)] == [1, 2, 4, LAST_SECONDS, LAST_SECONDS, LAST_SECONDS]
    waits.connected()
    assert waits.refused(None) == FIRST_SECONDS


def test_who_was_let_go_comes_when_they_were_told_to() -> None:
    waits = Waits(lambda: 0.5)
    assert waits.lost(0.7) == 0.7
    assert waits.lost(None) == FIRST_SECONDS / 2
