import pytest

from app.serving.headroom import LATE_SECONDS, Headroom


def test_a_node_with_nothing_to_do_takes_what_it_was_told() -> None:
    headroom = Headroom(200.0)
    headroom.sample(0.0, 5.0)
    headroom.sample(1.0, 5.0)
    assert headroom.accepts(0.0) == 200


def test_a_node_that_is_busy_for_long_takes_what_is_left_of_it() -> None:
    headroom = Headroom(200.0)
    for second in range(20):
        headroom.sample(second, second * 0.75)
    assert headroom.accepts(0.0) == pytest.approx(50, abs=1)


def test_one_busy_second_is_no_busy_node() -> None:
    headroom = Headroom(200.0)
    headroom.sample(0.0, 0.0)
    headroom.sample(1.0, 1.0)
    assert headroom.accepts(0.0) == 100


@pytest.mark.parametrize(("lag", "accepts"), [(LATE_SECONDS / 2, 100), (LATE_SECONDS, 0), (9.0, 0)])
def test_a_node_whose_timers_are_late_takes_fewer_or_nobody(lag: float, accepts: float) -> None:
    assert Headroom(200.0).accepts(lag) == accepts
