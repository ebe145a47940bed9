"""The rules of leaving, with a clock and a chance that the tests play."""

import random

import pytest

from app.realtime.hearing import Beacon
from app.serving.pace import RETRY_LIMIT_SECONDS, SPREAD_SECONDS, Pace, share

STEP = 0.05
UNKNOWN = 200.0


def beacon(
    name: str, *, connections: int = 0, accepts: float | None = None, draining: bool = False
) -> Beacon:
    return Beacon(incarnation=name, name=name, connections=connections, accepts=accepts, draining=draining)


def leaver(name: str, connections: int) -> Beacon:
    return beacon(name, connections=connections, accepts=0.0, draining=True)


def half() -> float:
    return 0.5


def leave(pace: Pace, count: int, rate: float, seconds: float) -> list[tuple[float, float]]:
    """When each of `count` was let go within `seconds`, and when it was to be back."""
    gone: list[tuple[float, float]] = []
    for step in range(round(seconds / STEP) + 1):
        now = step * STEP
        for _ in range(pace.due(now, count - len(gone), rate)):
            gone.append((now, now + pace.retry_after(now, rate)))
    return gone


def test_a_node_lets_go_what_all_who_stay_can_take_together() -> None:
    others = [beacon("b", accepts=100.0), beacon("c", accepts=50.0)]
    assert share(leaver("a", 900), others, UNKNOWN) == 150


def test_nodes_that_leave_together_share_it_by_what_they_have_left() -> None:
    stays = beacon("c", accepts=100.0)
    a, b = leaver("a", 900), leaver("b", 300)
    assert share(a, [b, stays], UNKNOWN) == 75
    assert share(b, [a, stays], UNKNOWN) == 25


def test_of_a_release_that_does_not_say_what_it_takes_the_usual_is_believed() -> None:
    assert share(leaver("a", 1), [beacon("b"), beacon("c", accepts=50.0)], UNKNOWN) == 250


@pytest.mark.parametrize("others", [[], [leaver("b", 10)]], ids=["nobody", "only who leaves, too"])
def test_where_nobody_is_heard_that_stays_a_node_goes_by_what_it_can_take_itself(
    others: list[Beacon],
) -> None:
    assert share(leaver("a", 10), others, UNKNOWN) == UNKNOWN


def test_others_that_take_nobody_get_nobody_until_time_is_short() -> None:
    assert share(leaver("a", 10), [beacon("b", accepts=0.0)], UNKNOWN) == 0


def test_300_leave_at_the_rate_and_no_faster() -> None:
    gone = leave(Pace(0.0, 30.0, draw=half), 300, 100.0, 10.0)
    assert len(gone) == 300
    for second in range(3):
        assert 95 <= sum(second < at <= second + 1 for at, _ in gone) <= 105


def test_the_steps_are_irregular_and_the_rate_is_kept() -> None:
    chance = random.Random(7)
    gone = leave(Pace(0.0, 30.0, draw=chance.random), 1_000, 100.0, 20.0)
    sizes = [sum(at == step * STEP for at, _ in gone) for step in range(1, 100)]
    assert len(set(sizes)) > 3
    assert 80 <= 1_000 / gone[-1][0] <= 120


def test_the_time_that_is_left_wins() -> None:
    pace = Pace(0.0, 10.0, draw=half)
    gone = leave(pace, 1_000, 1.0, 10.0)
    assert len(gone) == 1_000
    assert pace.forced
    assert max(sum(at == step * STEP for at, _ in gone) for step in range(201)) < 20, "evenly, not at the end"


def test_who_has_to_go_faster_than_the_others_can_take_is_told_to_come_back_later() -> None:
    gone = leave(Pace(0.0, 5.0, draw=half), 1_000, 50.0, 5.0)
    back = [at for _, at in gone]
    for second in range(2, 18):
        assert 45 <= sum(second < at <= second + 1 for at in back) <= 55
    assert all(when - at <= RETRY_LIMIT_SECONDS + SPREAD_SECONDS for at, when in gone)


def test_who_hurries_lets_everybody_go_now_and_spreads_them_all_the_same() -> None:
    pace = Pace(0.0, 30.0)
    pace.hurry()
    gone = leave(pace, 500, 50.0, 0.0)
    assert len(gone) == 500
    assert not pace.forced
    assert max(when for _, when in gone) > 9


def test_what_is_over_the_limit_does_not_come_back_as_one() -> None:
    pace = Pace(0.0, 30.0)
    pace.hurry()
    over = [when for _, when in leave(pace, 5_000, 1.0, 0.0)]
    assert max(over) <= RETRY_LIMIT_SECONDS + SPREAD_SECONDS
    for second in range(1, 30):
        assert sum(second < when <= second + 1 for when in over) < 400


def test_an_even_pace_takes_all_of_its_time_whatever_the_others_take() -> None:
    pace = Pace(0.0, 20.0, even=True, draw=half)
    gone = leave(pace, 40, 0.0, 20.0)
    assert len(gone) == 40
    assert not pace.forced
    assert all(when - at <= SPREAD_SECONDS for at, when in gone)
    assert 15 <= sum(at <= 10 for at, _ in gone) <= 25


def test_a_loop_that_stood_still_does_not_make_up_for_it_at_once() -> None:
    pace = Pace(0.0, 30.0, draw=half)
    assert pace.due(10.0, 1_000, 50.0) <= 30
