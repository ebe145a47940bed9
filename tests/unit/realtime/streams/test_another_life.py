"""Streams that begin another life, lose what was delivered, are purged or closed."""

import asyncio

import pytest

from app.realtime.node import Node
from app.realtime.stream import Reset, StreamEvent
from app.realtime.stream_audience import Ended
from app.realtime.stream_schedule import FILL_SECONDS
from app.realtime.streams import NoStream
from tests.unit.realtime.streams.guests import ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus


async def test_another_epoch_resets_all_and_the_stream_begins_where_the_database_is(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada, bob = await here(node), await here(node, name="u2")
    bus.brings(ROOM, database.store(ROOM))
    stored = database.streams[ROOM]
    stored.epoch = 9
    database.store(ROOM)
    bus.brings(ROOM, database.store(ROOM))
    await asyncio.sleep(FILL_SECONDS * 2)
    for guest in (ada, bob):
        assert guest.got == [1, "stream.reset"], "what was published before still arrived"
        assert guest.ended == [Ended(Reset.EPOCH)]
    ada.leave()
    again = (await Guest(node).enter()).follow(3, epoch=9)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert again.got == [4]
    assert bob.got == [1, "stream.reset"]


async def test_who_joins_in_a_new_life_gets_nothing_of_the_one_before(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await Guest(node).enter()
    bus.brings(ROOM, database.store(ROOM), database.store(ROOM))
    stored = database.streams[ROOM]
    stored.epoch, stored.last = 9, 0
    database.store(ROOM), database.store(ROOM)
    await asyncio.sleep(6)
    ada.follow(0, epoch=9)
    await end_of_tick()
    assert [frame["data"] for frame in ada.frames] == [{"epoch": 9}] * 2


async def test_nobody_gets_what_was_encoded_of_another_life_in_the_same_tick(
    node: Node, database: Database
) -> None:
    event = database.store(ROOM)
    ada, bob = await Guest(node).enter(), await Guest(node, "u2").enter()
    stored = database.streams[ROOM]
    stored.epoch, stored.last = 9, 0
    database.store(ROOM)
    database.gate.clear()
    asked = len(database.asked)
    bob.follow(0, epoch=9)
    await asyncio.sleep(FILL_SECONDS * 2)
    assert len(database.asked) > asked
    database.gate.set()
    ada.follow(0, events=[event])
    await end_of_tick()
    assert ada.frames[0]["data"] == {"epoch": 1}
    assert [frame["data"] for frame in bob.frames] == [{"epoch": 9}]


async def test_events_of_another_life_than_the_position_are_not_sent(node: Node, database: Database) -> None:
    event = database.store(ROOM)
    ada = await Guest(node).enter()
    database.streams[ROOM].epoch = 9
    ada.follow(0, events=[event._replace(epoch=9)])
    await asyncio.sleep(1)
    assert ada.got == ["stream.reset"]
    assert ada.ended == [Ended(Reset.EPOCH)]


async def test_who_joins_after_a_reset_gets_nothing_mixed_with_what_came_before_it(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await Guest(node).enter()
    bus.brings(ROOM, *[database.store(ROOM) for _ in range(3)])
    for _ in range(3):
        database.store(ROOM)
    database.purge(ROOM, 4)
    await asyncio.sleep(6)
    bus.brings(ROOM, database.store(ROOM))
    ada.follow(1)
    await asyncio.sleep(1)
    assert ada.got == ["stream.reset"]
    assert ada.ended == [Ended(Reset.PURGED)]


async def test_another_epoch_is_noticed_by_a_sweep_too(node: Node, database: Database) -> None:
    ada = await here(node)
    database.streams[ROOM].epoch = 9
    await asyncio.sleep(5.5)
    assert ada.ended == [Ended(Reset.EPOCH)]


async def test_a_client_that_knows_the_new_epoch_first_is_not_sent_away(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    database.streams[ROOM].epoch = 9
    ada = (await Guest(node).enter()).follow(0, epoch=9)
    await end_of_tick()
    assert bob.ended == [Ended(Reset.EPOCH)]
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (ada.got, ada.ended) == ([1], [])


async def test_late_words_of_an_earlier_life_are_ignored(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    database.streams[ROOM].epoch = 9
    ada = (await Guest(node).enter()).follow(0, epoch=9)
    bus.brings(ROOM, StreamEvent(1, 1, b'{"event":"test.said","data":{}}'))
    await asyncio.sleep(1)
    assert (ada.got, ada.ended) == ([], [])
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert ada.got == [1]


async def test_a_database_that_lost_what_was_delivered_resets(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    for _ in range(3):
        bus.brings(ROOM, database.store(ROOM))
    database.streams[ROOM].last = 2
    await asyncio.sleep(5.5)
    assert ada.got == [1, 2, 3, "stream.reset"]
    assert ada.ended == [Ended(Reset.AHEAD)]


async def test_what_a_database_lost_before_it_was_delivered_never_is(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    lost = StreamEvent(1, 3, b'{"event":"test.lost","data":{}}')
    bus.brings(ROOM, lost)
    await asyncio.sleep(FILL_SECONDS * 2)
    asked = len(database.asked)
    await asyncio.sleep(1)
    assert len(database.asked) == asked, "nothing is known to be missing"
    for _ in range(3):
        bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert [frame["event"] for frame in ada.frames] == ["test.said"] * 3


async def test_a_purge_under_a_hole_resets(node: Node, bus: PlayedBus, database: Database) -> None:
    ada = await here(node)
    events = [database.store(ROOM) for _ in range(4)]
    bus.brings(ROOM, events[3])
    database.purge(ROOM, 2)
    await asyncio.sleep(FILL_SECONDS * 2)
    assert ada.got == ["stream.reset"]
    assert ada.ended == [Ended(Reset.PURGED)]


async def test_a_purge_of_what_was_delivered_resets_nobody(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    bus.brings(ROOM, *[database.store(ROOM) for _ in range(4)])
    database.purge(ROOM, 4)
    await asyncio.sleep(10)
    assert (ada.got, ada.ended) == ([1, 2, 3, 4], [])


async def test_who_was_on_the_way_into_a_stream_that_was_closed_is_told(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    database.store(ROOM)
    # What bob knows from a snapshot, and eve has missed, the bus has not brought yet.
    bob = (await Guest(node, "u2").enter()).follow(1)
    eve = (await Guest(node, "u3").enter()).follow(0, epoch=2)
    del database.streams[ROOM]
    await asyncio.sleep(6)
    told = Ended(Reset.EPOCH)
    assert (ada.ended, bob.ended, eve.ended) == ([told], [told], [told])
    assert ada.got == bob.got == eve.got == ["stream.reset"]


async def test_a_stream_that_was_closed_resets_and_can_be_opened_again(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    stored = database.streams.pop(ROOM)
    await asyncio.sleep(5.5)
    assert ada.ended == [Ended(Reset.EPOCH)]
    with pytest.raises(NoStream):
        await Guest(node).enter()
    stored.epoch = 9
    database.streams[ROOM] = stored
    again = (await Guest(node).enter()).follow(0, epoch=9)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert again.got == [1]
