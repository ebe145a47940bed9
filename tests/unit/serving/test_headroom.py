"""What a node says that it can take, measured on a model of one: nothing here looks at a real clock."""

import random
from collections.abc import Callable
from itertools import count

import pytest

from app.serving.headroom import BUSY_LIMIT, FIRST_COST_SECONDS, LATE_SECONDS, Headroom

NO_LIMIT = 1e9


class ModelNode:
    """A loop on which everything else takes `rest` of each second, and a new connection `cost` seconds: a
    part of that only in the next second, when it joins its rooms."""

    def __init__(self, headroom: Headroom, rest: float, cost: float, noise: float = 0.0) -> None:
        self.headroom = headroom
        self.rest = rest
        self.cost = cost
        self._noise = noise
        self._chance = random.Random(7)
        self._seconds = count()
        self._accepted = 0
        self._put_off = 0.0
        self._worked = 0.0
        self.second(0)

    def second(self, came: int) -> float:
        """One second in which so many came; how busy the loop was, above 1 if it could not do it all."""
        asked = self.rest + self._put_off + 0.7 * came * self.cost
        self._put_off = 0.3 * came * self.cost
        asked += self._chance.gauss(0, self._noise)
        self._worked += min(1.0, max(0.0, asked))
        self._accepted += came
        self.headroom.sample(next(self._seconds), self._worked, self._accepted)
        return asked

    def seconds(self, number: int, came: Callable[[int], int] = lambda second: 0) -> list[float]:
        return [self.second(came(second)) for second in range(number)]

    @property
    def capacity(self) -> float:
        """What it really can take beside the rest."""
        return (BUSY_LIMIT - self.rest) / self.cost


def test_a_node_that_has_taken_nobody_yet_begins_carefully() -> None:
    headroom = Headroom(NO_LIMIT)
    ModelNode(headroom, rest=0.0, cost=0.001).seconds(10)
    assert headroom.accepts(0.0) == BUSY_LIMIT / FIRST_COST_SECONDS


def test_the_setting_is_never_passed() -> None:
    headroom = Headroom(150.0)
    assert headroom.accepts(0.0) == 150
    ModelNode(headroom, rest=0.0, cost=0.0001).seconds(10, lambda second: 100)
    assert headroom.accepts(0.0) == 150


@pytest.mark.parametrize("cost", [0.0005, 0.002, 0.01])
@pytest.mark.parametrize("rest", [0.0, 0.3, 0.6])
def test_a_storm_shows_what_a_connection_costs(rest: float, cost: float) -> None:
    headroom = Headroom(NO_LIMIT)
    node = ModelNode(headroom, rest, cost, noise=0.02)
    node.seconds(30)
    node.seconds(10, lambda second: int(0.7 * node.capacity))
    assert headroom.cost == pytest.approx(cost, rel=0.25)
    node.seconds(30)
    assert headroom.accepts(0.0) == pytest.approx(node.capacity, rel=0.3)


def test_what_everything_else_takes_is_learnt_within_seconds() -> None:
    headroom = Headroom(NO_LIMIT)
    node = ModelNode(headroom, rest=0.2, cost=0.004)
    node.seconds(10)
    node.rest = 0.6
    node.seconds(6)
    assert headroom.accepts(0.0) == pytest.approx(node.capacity, rel=0.1)


def test_one_busy_second_is_no_busy_node() -> None:
    headroom = Headroom(NO_LIMIT)
    node = ModelNode(headroom, rest=0.0, cost=0.004)
    node.seconds(10)
    node.rest = 0.8
    node.second(0)
    assert headroom.accepts(0.0) == pytest.approx(100, rel=0.01)


def test_a_few_who_come_all_the_time_on_a_restless_node_tell_nothing_wrong() -> None:
    headroom = Headroom(NO_LIMIT)
    node = ModelNode(headroom, rest=0.4, cost=0.002, noise=0.1)
    node.seconds(3_600, lambda second: second % 7)
    assert 0.001 < headroom.cost < 0.008


def test_load_that_grows_with_those_who_come_makes_a_node_more_careful_and_not_less() -> None:
    headroom = Headroom(NO_LIMIT)
    node = ModelNode(headroom, rest=0.1, cost=0.001)
    node.seconds(10)
    node.seconds(3, lambda second: 200)
    for _ in range(20):
        node.second(200)
        assert headroom.accepts(0.0) <= node.capacity * 1.05
        node.rest += 0.02


@pytest.mark.parametrize("cost", [0.0005, 0.003, 0.012])
def test_nodes_that_leave_by_what_this_one_says_do_not_overrun_it(cost: float) -> None:
    headroom = Headroom(NO_LIMIT)
    node = ModelNode(headroom, rest=0.3, cost=cost, noise=0.02)
    node.seconds(30)
    node.seconds(6, lambda second: 40)  # it had people before
    node.seconds(30)
    busy = node.seconds(60, lambda second: int(headroom.accepts(0.0)))
    assert sum(one > 1.0 for one in busy) <= 3, "at first at most, while it learns"
    assert max(busy[5:]) < 1.0
    assert sum(busy[10:]) / 50 > 0.55, "and what is free is used"


@pytest.mark.parametrize(("lag", "share"), [(LATE_SECONDS / 2, 0.5), (LATE_SECONDS, 0), (9.0, 0)])
def test_a_node_whose_timers_are_late_takes_fewer_or_nobody(lag: float, share: float) -> None:
    assert Headroom(100.0).accepts(lag) == 100 * share


def test_a_node_that_is_full_of_other_work_takes_nobody() -> None:
    headroom = Headroom(NO_LIMIT)
    ModelNode(headroom, rest=0.95, cost=0.001).seconds(20)
    assert headroom.accepts(0.0) == 0


def test_a_clock_that_stands_still_says_nothing() -> None:
    headroom = Headroom(100.0)
    headroom.sample(1.0, 0.0, 0)
    headroom.sample(1.0, 1.0, 500)
    assert headroom.cost == FIRST_COST_SECONDS
