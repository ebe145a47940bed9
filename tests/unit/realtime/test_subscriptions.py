"""Joins and leaves of one tick are netted, and nobody who joins waits for ever."""

import asyncio

import pytest

from app.realtime.subscriptions import Subscriptions, confirm


@pytest.fixture
async def subscriptions() -> Subscriptions:
    return Subscriptions("carillon:")


async def test_only_the_difference_since_the_last_tick_is_sent(subscriptions: Subscriptions) -> None:
    for group in "abc":
        subscriptions.add(group)
    subscriptions.discard("b")
    assert subscriptions.changes() == (["a", "c"], [])
    subscriptions.discard("a")
    subscriptions.add("d")
    subscriptions.discard("c")
    subscriptions.add("c")
    assert subscriptions.changes() == (["d"], ["a"])
    assert subscriptions.changes() == ([], [])


async def test_a_channel_is_the_prefix_and_the_group_and_only_wanted_ones_are_known(
    subscriptions: Subscriptions,
) -> None:
    subscriptions.add("room")
    assert subscriptions.channel("room") == b"carillon:room"
    assert subscriptions.group(b"carillon:room") == "room"
    subscriptions.discard("room")
    assert subscriptions.group(b"carillon:room") is None


async def test_all_who_join_before_the_answer_are_told_by_it(subscriptions: Subscriptions) -> None:
    first, second = subscriptions.add("a"), subscriptions.add("a")
    joins, _ = subscriptions.changes()
    third = subscriptions.add("a")
    assert not (first.done() or second.done() or third.done())
    confirm(subscriptions.waiting(joins))
    await asyncio.gather(first, second, third)
    assert subscriptions.add("a").done()


async def test_an_earlier_answer_does_not_confirm_a_later_join(subscriptions: Subscriptions) -> None:
    subscriptions.add("a")
    earlier = subscriptions.waiting(subscriptions.changes()[0])
    subscriptions.discard("a")
    subscriptions.changes()
    joined = subscriptions.add("a")
    later = subscriptions.waiting(subscriptions.changes()[0])
    confirm(earlier)
    await asyncio.sleep(0)
    assert not joined.done()
    confirm(later)
    await joined


async def test_the_loss_of_redis_ends_all_waiting_and_asks_for_everything_again(
    subscriptions: Subscriptions,
) -> None:
    asked = subscriptions.add("a")
    subscriptions.changes()
    unasked = subscriptions.add("b")
    subscriptions.lost()
    await asyncio.gather(asked, unasked)
    assert subscriptions.add("c").done()
    assert subscriptions.changes() == (["a", "b", "c"], [])


async def test_a_group_left_while_redis_is_away_is_not_asked_for(subscriptions: Subscriptions) -> None:
    subscriptions.add("a")
    subscriptions.add("b")
    subscriptions.changes()
    subscriptions.lost()
    subscriptions.discard("a")
    assert subscriptions.changes() == (["b"], [])
