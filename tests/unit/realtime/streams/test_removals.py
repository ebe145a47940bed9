"""A removal ends the following of that person in its place."""

import asyncio

import pytest

from app.realtime.node import Node
from app.realtime.stream import Reset
from app.realtime.stream_audience import Ended
from app.realtime.stream_schedule import FILL_SECONDS
from tests.unit.realtime.streams.guests import ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus


async def test_nothing_after_a_removal_is_delivered_to_that_person(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada, bob, bobs_other = await here(node), await here(node, name="u2"), await here(node, name="u2")
    events = [database.store(ROOM), database.store(ROOM, removes="u2"), database.store(ROOM)]
    bus.brings(ROOM, *events)
    await end_of_tick()
    assert ada.got == [1, 2, 3]
    assert bob.got == bobs_other.got == [1, 2]
    assert bob.ended == bobs_other.ended == [Ended(None)]
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (ada.got, bob.got) == ([1, 2, 3, 4], [1, 2])
    assert ada.ended == []


async def test_a_removal_that_overtook_an_earlier_event_waits_for_it(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    events = [database.store(ROOM), database.store(ROOM, removes="u2"), database.store(ROOM)]
    bus.brings(ROOM, events[1], events[2])
    await end_of_tick()
    assert (bob.got, bob.ended) == ([], [])
    bus.brings(ROOM, events[0])
    await end_of_tick()
    assert (bob.got, bob.ended) == ([1, 2], [Ended(None)])


async def test_a_removal_that_comes_from_the_database_is_obeyed(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    for removes in ("", "u2", ""):
        last = database.store(ROOM, removes)
    bus.brings(ROOM, last)
    await asyncio.sleep(FILL_SECONDS * 2)
    assert (bob.got, bob.ended) == ([1, 2], [Ended(None)])


@pytest.mark.parametrize("read_before", [True, False])
async def test_a_removal_amid_what_was_missed_is_obeyed(
    node: Node, bus: PlayedBus, database: Database, read_before: bool
) -> None:
    events = [database.store(ROOM, removes) for removes in ("", "u2", "")]
    bob, ada = await Guest(node, "u2").enter(), await Guest(node).enter()
    for guest in (bob, ada):
        guest.follow(0, events=events if read_before else [])
    assert bob.ended == [], "never before `follow` returns"
    await end_of_tick()
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (bob.got, bob.ended) == ([1, 2], [Ended(None)])
    assert (ada.got, ada.ended) == ([1, 2, 3, 4], [])


async def test_a_removal_before_ones_position_is_over(node: Node, bus: PlayedBus, database: Database) -> None:
    events = [database.store(ROOM, removes) for removes in ("", "u2", "")]
    bob = (await Guest(node, "u2").enter()).follow(2, events=events)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (bob.got, bob.ended) == ([3, 4], [])


async def test_who_left_in_the_tick_of_the_removal_is_not_told(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    node.streams.committed([(ROOM, database.store(ROOM, removes="u2"))])
    bob.leave()
    await end_of_tick()
    assert bob.ended == []


async def test_who_is_sent_away_gets_what_was_published_before_and_then_nothing(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada, bob = await here(node), await here(node, name="u2")
    bus.brings(ROOM, database.store(ROOM))
    bob.following.send_away(Reset.RIGHTS)
    bob.following.send_away(Reset.RIGHTS)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (ada.got, ada.ended) == ([1, 2], [])
    assert (bob.got, bob.ended) == ([1, "stream.reset"], [Ended(Reset.RIGHTS)])


async def test_who_is_sent_away_on_the_way_never_arrives(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, after=3, name="u2")  # where the node is not yet
    bob.following.send_away(Reset.RIGHTS)
    bus.brings(ROOM, *[database.store(ROOM) for _ in range(5)])
    await end_of_tick()
    assert (bob.got, bob.ended) == (["stream.reset"], [Ended(Reset.RIGHTS)])
