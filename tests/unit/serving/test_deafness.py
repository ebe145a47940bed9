"""What a node does about its deafness, over time."""

import random

import pytest

from app.serving.deafness import (
    DOUBT_SECONDS,
    HEAL_SECONDS,
    RECONNECT_SECONDS,
    RETURN_SECONDS,
    Deafness,
    State,
    Step,
)

Word = bool | None
NOTHING = [Step.STAY]


def live(deafness: Deafness, words: list[Word], start: int = 0, hears_itself: bool = False) -> list[Step]:
    """What is to be done each second, `words` being those of the witness."""
    return [deafness.judge(word, hears_itself, float(start + n)) for n, word in enumerate(words)]


def away() -> Deafness:
    deafness = Deafness()
    deafness.judge(True, False, 0.0)
    deafness.left()
    return deafness


def test_who_hears_or_is_in_doubt_does_nothing() -> None:
    assert live(Deafness(), [False, None] * 50) == 100 * NOTHING


def test_who_does_not_even_hear_itself_joins_the_bus_anew_at_once_and_then_leaves() -> None:
    steps = live(Deafness(), [True] * 6)
    assert steps == [Step.RECONNECT, *NOTHING * (int(HEAL_SECONDS) - 1), Step.LEAVE, Step.LEAVE]


def test_who_hears_itself_does_nothing_until_it_is_sure() -> None:
    steps = live(Deafness(), [True] * 6, hears_itself=True)
    assert steps == [*NOTHING * int(DOUBT_SECONDS), Step.RECONNECT, Step.STAY]
    deafness = Deafness()
    assert live(deafness, [True, True, True, False] * 10, hears_itself=True) == 40 * NOTHING
    assert deafness.state is State.HEARING


def test_a_join_that_heals_leads_to_nothing_more() -> None:
    deafness = Deafness()
    assert live(deafness, [True, True, False, False]) == [Step.RECONNECT, *NOTHING * 3]
    assert deafness.state is State.HEARING


def test_who_gets_no_turn_stays_asks_again_and_joins_anew_now_and_then() -> None:
    steps = live(Deafness(), [True] * 31)
    assert [n for n, step in enumerate(steps) if step is Step.RECONNECT] == [0, 10, 20, 30]
    assert steps[4:10] == [Step.LEAVE] * 6


def test_in_doubt_nobody_leaves() -> None:
    deafness = Deafness()
    assert live(deafness, [True, True, *[None] * 20]) == [Step.RECONNECT, *NOTHING * 21]
    assert deafness.state is State.DEAF


def test_who_is_away_comes_back_when_it_has_heard_for_a_while() -> None:
    deafness = away()
    assert live(deafness, [False] * 5, start=1) == NOTHING * 5
    assert live(deafness, [False], start=6) == [Step.RETURN]
    assert deafness.state is State.HEARING


@pytest.mark.parametrize("word", [True, None])
def test_who_is_away_and_not_sure_to_hear_stays_away(word: Word) -> None:
    deafness = away()
    words = [False, False, False, False, word] * 5
    assert Step.RETURN not in live(deafness, words, start=1)
    assert deafness.state is State.AWAY


def test_who_is_away_goes_on_joining_anew() -> None:
    steps = live(away(), [True] * 30, start=1)
    assert set(steps) == {Step.STAY, Step.RECONNECT}
    assert [n + 1 for n, step in enumerate(steps) if step is Step.RECONNECT] == [10, 20, 30]


def test_whatever_the_witness_says_nobody_leaves_without_having_tried_to_heal_nor_returns_unheard() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(300):
        deafness = Deafness()
        words: list[Word] = chance.choices([True, False, None], weights=[8, 1, 1], k=200)
        tried, heard = -RECONNECT_SECONDS, 0
        for now, word in enumerate(words):
            step = deafness.judge(word, chance.random() < 0.5, float(now))
            heard = heard + 1 if word is False else 0
            if step is Step.RECONNECT:
                assert word is True, seed
                tried = float(now)
            if step is Step.LEAVE:
                assert word is True, seed
                assert now - tried >= HEAL_SECONDS, seed
                assert False not in words[int(tried) : now + 1], seed
                deafness.left()
            if step is Step.RETURN:
                assert heard > RETURN_SECONDS, seed
