"""Events of a stream reach whoever follows in order and once; holes are filled. Time jumps."""

import asyncio

import pytest

from app.realtime import streams as streams_module
from app.realtime.node import Node
from app.realtime.stream import StreamEvent
from app.realtime.stream_order import HeldBytes
from app.realtime.stream_schedule import FILL_SECONDS
from tests.unit.realtime.streams.guests import CELLAR, ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus


async def test_what_this_node_stores_is_delivered_here_and_published(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    event = database.store(ROOM)
    node.streams.committed([(ROOM, event)])
    await end_of_tick()
    assert ada.frames == [{"stream": ROOM, "sequence": 1, "event": "test.said", "data": {"epoch": 1}}]
    assert bus.events() == [(ROOM, event)]


async def test_what_nobody_follows_here_is_published_all_the_same(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    event = database.store(ROOM)
    node.streams.committed([(ROOM, event)])
    assert bus.events() == [(ROOM, event)]
    assert database.asked == []


async def test_what_the_bus_repeats_and_reorders_arrives_in_order_and_once(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    asked = len(database.asked)
    one, two, three, four = [database.store(ROOM) for _ in range(4)]
    bus.brings(ROOM, two, four, two, one, one)
    await end_of_tick()
    assert ada.got == [1, 2]
    bus.brings(ROOM, three, two, four)
    await asyncio.sleep(FILL_SECONDS * 2)
    assert ada.got == [1, 2, 3, 4]
    assert len(database.asked) == asked, "the bus brought everything in time"


async def test_a_nodes_own_events_wait_for_earlier_ones(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    theirs, ours = database.store(ROOM), database.store(ROOM)
    node.streams.committed([(ROOM, ours)])
    await end_of_tick()
    assert ada.got == []
    assert bus.events() == [(ROOM, ours)], "the other nodes need not wait"
    bus.brings(ROOM, theirs)
    await end_of_tick()
    assert ada.got == [1, 2]


async def test_an_own_echo_and_events_of_other_streams_disturb_nothing(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada, bob = await here(node), await here(node, stream=CELLAR)
    node.streams.committed([(ROOM, database.store(ROOM)), (CELLAR, database.store(CELLAR))])
    bus.brings(CELLAR, database.store(CELLAR))
    bus.brings("room.unknown", StreamEvent(1, 1, b"{}"))
    await end_of_tick()
    assert (ada.got, bob.got) == ([1], [1, 2])


async def test_a_frame_is_encoded_once_for_all(node: Node, bus: PlayedBus, database: Database) -> None:
    events = [database.store(ROOM) for _ in range(3)]
    first, second = await Guest(node).enter(), await Guest(node).enter()
    first.follow(1, events=events)
    second.follow(0, events=events)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert second.encoded[1:] == first.encoded
    assert all(one is other for one, other in zip(first.encoded, second.encoded[1:], strict=True))


async def test_all_holes_of_all_streams_are_filled_with_one_query_after_a_while(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada, bob = await here(node), await here(node, stream=CELLAR)
    asked = len(database.asked)
    for stream in (ROOM, CELLAR):
        database.store(stream), database.store(stream)
        bus.brings(stream, database.store(stream))
    await asyncio.sleep(FILL_SECONDS / 2)
    assert (ada.got, bob.got) == ([], [])
    assert len(database.asked) == asked, "the bus may still bring it"
    await asyncio.sleep(FILL_SECONDS)
    assert (ada.got, bob.got) == ([1, 2, 3], [1, 2, 3])
    assert database.asked[asked:] == [{ROOM: 0, CELLAR: 0}]


async def test_a_young_hole_is_given_its_time(node: Node, bus: PlayedBus, database: Database) -> None:
    await here(node), await here(node, stream=CELLAR)
    asked = len(database.asked)
    for stream in (ROOM, CELLAR):
        database.store(stream)
        bus.brings(stream, database.store(stream))
        await asyncio.sleep(FILL_SECONDS * 0.6)
    await asyncio.sleep(FILL_SECONDS)
    assert database.asked[asked:] == [{ROOM: 0}, {CELLAR: 0}]


async def test_one_read_is_on_its_way_at_a_time(node: Node, bus: PlayedBus, database: Database) -> None:
    ada, bob = await here(node), await here(node, stream=CELLAR)
    database.gate.clear()
    asked = len(database.asked)
    for stream in (ROOM, CELLAR):
        database.store(stream)
        bus.brings(stream, database.store(stream))
        await asyncio.sleep(2)
    assert database.asked[asked:] == [{ROOM: 0}]
    database.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(FILL_SECONDS)
    assert (ada.got, bob.got) == ([1, 2], [1, 2])


async def test_live_events_go_on_while_a_read_is_on_its_way(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    one, two = database.store(ROOM), database.store(ROOM)
    bus.brings(ROOM, two)
    database.gate.clear()
    await asyncio.sleep(FILL_SECONDS * 2)
    bus.brings(ROOM, one)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert ada.got == [1, 2, 3], "the answer is not needed any more"
    database.gate.set()
    await asyncio.sleep(FILL_SECONDS * 2)
    assert ada.got == [1, 2, 3]
    assert ada.ended == []


async def test_a_large_hole_is_filled_piece_by_piece_at_once(
    node: Node, bus: PlayedBus, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "READ_EVENTS", 10)
    ada = await here(node)
    asked = len(database.asked)
    for _ in range(35):
        last = database.store(ROOM)
    bus.brings(ROOM, last)
    await asyncio.sleep(FILL_SECONDS * 2)
    assert ada.got == list(range(1, 36))
    assert database.asked[asked:] == [{ROOM: 0}, {ROOM: 10}, {ROOM: 20}, {ROOM: 30}]
    assert set(database.limits[asked:]) == {10}


async def test_a_hole_of_many_bytes_is_filled_piece_by_piece_at_once(
    node: Node, bus: PlayedBus, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = await here(node), await here(node, stream=CELLAR)
    asked = len(database.asked)
    for stream in (ROOM, CELLAR):
        last = [database.store(stream) for _ in range(7)][-1]
        bus.brings(stream, last)
    monkeypatch.setattr(streams_module, "READ_BYTES", 3 * len(last.payload))
    await asyncio.sleep(FILL_SECONDS * 2)
    assert ada.got == bob.got == list(range(1, 8))
    pieces = database.asked[asked:]
    assert pieces[0] == {ROOM: 0, CELLAR: 0}
    assert len(pieces) == 4  # two more of them were here already


async def test_a_hole_in_the_database_itself_is_asked_for_again_but_never_in_a_hurry(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    del database.streams[ROOM].events[database.store(ROOM).sequence]
    bus.brings(ROOM, database.store(ROOM))
    asked = len(database.asked)
    await asyncio.sleep(1)
    assert ada.got == []
    assert 1 < len(database.asked) - asked <= 12


async def test_what_waits_for_earlier_events_is_bounded_and_read_again(
    node: Node, bus: PlayedBus, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.streams, "_held_bytes", HeldBytes(limit=2_000))
    ada = await here(node)
    events = [database.store(ROOM) for _ in range(100)]
    bus.brings(ROOM, *events[1:])
    assert node.streams._held_bytes.used <= 2_000
    await asyncio.sleep(FILL_SECONDS * 2)
    assert ada.got == list(range(1, 101))
    assert node.streams._held_bytes.used == 0


async def test_what_a_forgotten_stream_held_is_given_back(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    database.store(ROOM)
    bus.brings(ROOM, database.store(ROOM))
    assert node.streams._held_bytes.used
    ada.leave()
    assert node.streams._held_bytes.used == 0
    asked = len(database.asked)
    await asyncio.sleep(60)
    assert len(database.asked) == asked
