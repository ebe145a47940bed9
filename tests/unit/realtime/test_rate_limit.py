import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.rate_limit import TokenBucket


def test_a_burst_is_allowed_at_once_and_no_more() -> None:
    bucket = TokenBucket(per_second=10, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]


def test_who_waits_as_long_as_it_was_told_gets_a_token() -> None:
    bucket = TokenBucket(per_second=4, burst=1, now=0)
    assert bucket.take(0) == 0
    wait = bucket.take(0.05)
    assert wait == pytest.approx(0.2)
    assert bucket.take(0.05 + wait) == 0


def test_a_refusal_costs_nothing() -> None:
    bucket = TokenBucket(per_second=1, burst=1, now=0)
    bucket.take(0)
    for _ in range(100):
        assert bucket.take(0.5) > 0
    assert bucket.take(1) == 0


def test_a_long_rest_saves_up_one_burst_and_not_more() -> None:
    bucket = TokenBucket(per_second=10, burst=2, now=0)
    assert [bucket.take(3600) for _ in range(3)] == [0, 0, pytest.approx(0.1)]


def test_without_a_time_it_asks_the_clock() -> None:
    bucket = TokenBucket(per_second=0.001, burst=1)
    assert bucket.take() == 0
    assert bucket.take() > 0


def test_several_within_one_get_no_more_together_than_it_allows() -> None:
    whole = TokenBucket(per_second=10, burst=5, now=0)
    parts = [TokenBucket(per_second=10, burst=3, now=0, within=whole) for _ in range(3)]
    taken = [[part.take(0) for _ in range(4)] for part in parts]
    assert [waits.count(0) for waits in taken] == [3, 2, 0]
    assert parts[2].take(0) == pytest.approx(0.1)
    assert parts[2].take(0.1) == 0


def test_what_the_whole_refuses_costs_the_part_nothing() -> None:
    whole = TokenBucket(per_second=1, burst=1, now=0)
    part = TokenBucket(per_second=1, burst=2, now=0, within=whole)
    assert part.take(0) == 0
    for _ in range(10):
        assert part.take(0) > 0
    assert part.take(1) == 0
    assert part.take(2) == 0


@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 2), min_size=1, max_size=100),
)
def test_it_never_allows_more_than_the_burst_and_the_rate(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    bucket = TokenBucket(per_second, burst, now=0)
    now, taken = 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0
        assert taken <= burst + now * per_second + 1e-6
