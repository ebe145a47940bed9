"""What the account says of events equals what a list of everything that happened says; and it stays small."""

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from app.realtime.delivery_account import (
    KEPT_BYTES,
    KEPT_EVENTS,
    KEPT_SECONDS,
    DeliveryAccount,
    Tally,
)

ROOM = "room.lobby"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> DeliveryAccount:
    return DeliveryAccount(clock)


def counted(stage: str) -> float:
    return REGISTRY.get_sample_value("carillon_deliveries_total", {"stage": stage}) or 0.0


def test_an_event_is_accounted_for_from_the_hub_to_the_last_client(account: DeliveryAccount) -> None:
    before = {stage: counted(stage) for stage in Tally._fields}
    written = account.given(ROOM, 1, 7, 3)
    assert account.tally(ROOM, 7) == Tally(3, 0, 0, 0)
    written(1)
    written(1)
    account.confirmed(ROOM, 1, 7, 7)
    account.recovered(ROOM, 1, 6, 7)
    assert account.tally(ROOM, 7) == Tally(expected=3, written=2, confirmed=1, recovered=1)
    assert account.tally(ROOM, 6) == Tally(0, 0, 0, 1)
    assert {stage: counted(stage) - before[stage] for stage in Tally._fields} == {
        "expected": 3,
        "written": 2,
        "confirmed": 1,
        "recovered": 2,
    }


def test_nothing_is_known_of_what_did_not_happen_here(account: DeliveryAccount) -> None:
    assert account.tally(ROOM, 7) is None
    account.given(ROOM, 1, 7, 1)(1)
    for sequence in (0, 6, 8, 2**53):
        assert account.tally(ROOM, sequence) is None
    assert account.tally(ROOM, 7, epoch=2) is None
    assert account.tally(ROOM, 7, epoch=1) == account.tally(ROOM, 7) == Tally(1, 1, 0, 0)


def test_another_life_of_the_stream_begins_with_nothing(account: DeliveryAccount) -> None:
    late = account.given(ROOM, 1, 7, 5)
    account.given(ROOM, 2, 7, 1)(1)
    late(5)
    assert account.tally(ROOM, 7) == Tally(1, 1, 0, 0)
    assert account.tally(ROOM, 7, epoch=1) is None


HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("given"), st.integers(1, 1600), st.integers(0, 9)),
        st.tuples(st.just("confirmed"), st.integers(0, 2500), st.integers(0, 2500)),
        st.tuples(st.just("recovered"), st.integers(0, 2500), st.integers(0, 2500)),
    ),
    max_size=30,
)


@given(HAPPENINGS)
def test_it_says_what_a_list_of_all_that_happened_says(happenings: list[tuple[str, int, int]]) -> None:
    """The stream goes on, in steps or leaps; spans end at its last event, or before."""
    account = DeliveryAccount(Clock())
    last = 5000
    kept: dict[str, Counter[int]] = {stage: Counter() for stage in Tally._fields}
    account.given(ROOM, 1, last, 1)(1)
    kept["expected"][last] = kept["written"][last] = 1
    for what, one, other in happenings:
        if what == "given":
            for last in range(last + 1, last + one + 1):  # noqa: B020  # it is the stream's last from here on
                account.given(ROOM, 1, last, other)(other)
                kept["expected"][last] = kept["written"][last] = other
        else:
            first, end = last - max(one, other), last - min(one, other)
            getattr(account, what)(ROOM, 1, first, end)
            kept[what].update(range(first, end + 1))
    for sequence in range(last - KEPT_EVENTS + 1, last + 10):
        truth = Tally(*(kept[stage][sequence] for stage in Tally._fields))
        assert account.tally(ROOM, sequence) == (truth if any(truth) else None), sequence


def test_what_is_too_old_is_counted_nowhere(account: DeliveryAccount) -> None:
    account.given(ROOM, 1, 5000, 1)(1)
    account.given(ROOM, 1, 100, 7)(7)
    account.confirmed(ROOM, 1, 90, 100)
    account.recovered(ROOM, 1, 90, 4999)
    tallies = {sequence: account.tally(ROOM, sequence) for sequence in (90, 100, 4999, 5000, 5001)}
    assert tallies == {90: None, 100: None, 4999: Tally(0, 0, 0, 1), 5000: Tally(1, 1, 0, 0), 5001: None}


def test_a_leap_forgets_what_was_before(account: DeliveryAccount) -> None:
    account.given(ROOM, 1, 7, 1)(1)
    account.given(ROOM, 1, 2**50, 2)(2)
    assert account.tally(ROOM, 7) is None
    assert account.tally(ROOM, 2**50) == Tally(2, 2, 0, 0)


def test_the_latest_thousand_are_kept_and_late_words_of_older_ones_change_nothing(
    account: DeliveryAccount,
) -> None:
    late = account.given(ROOM, 1, 1, 1)
    for sequence in range(2, 5 * KEPT_EVENTS):
        account.given(ROOM, 1, sequence, 1)(1)
    last = 5 * KEPT_EVENTS - 1
    assert account.tally(ROOM, last - KEPT_EVENTS + 1) == Tally(1, 1, 0, 0)
    assert account.tally(ROOM, 1) is None
    late(1)
    account.confirmed(ROOM, 1, 1, last)
    assert account.tally(ROOM, last - KEPT_EVENTS + 1) == account.tally(ROOM, last) == Tally(1, 1, 1, 0)


def test_a_stream_without_news_is_forgotten(account: DeliveryAccount, clock: Clock) -> None:
    account.given(ROOM, 1, 7, 1)
    account.given("room.cellar", 1, 7, 1)
    clock.now += KEPT_SECONDS - 1
    account.confirmed(ROOM, 1, 7, 7)
    clock.now += 2
    assert account.tally(ROOM, 7) == Tally(1, 0, 1, 0)
    assert account.tally("room.cellar", 7) is None
    clock.now += KEPT_SECONDS
    assert account.tally(ROOM, 7) is None
    assert account.bytes == 0


@pytest.mark.parametrize(("streams", "events"), [(9_000, 1), (600, 1_500)])
def test_its_memory_is_bounded_whatever_happens(streams: int, events: int) -> None:
    account = DeliveryAccount(Clock())
    tracemalloc.start()
    try:
        for number in range(streams):
            name = f"room.number-{number}"
            account.given(name, 1, 1, 1)(1)
            if events > 1:
                account.recovered(name, 1, 2, events // 2)
                account.given(name, 1, events, 1)(1)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert account.bytes <= KEPT_BYTES
    assert taken <= KEPT_BYTES
    assert account.tally(f"room.number-{streams - 1}", events) == Tally(1, 1, 0, 0)
    assert account.tally("room.number-0", 1) is None
