"""Streams become active on a node with the first who enters and are forgotten with the last who leaves."""

import asyncio

import pytest

from app.realtime.node import Node
from app.realtime.stream_schedule import FILL_SECONDS
from app.realtime.streams import NoStream
from tests.unit.realtime.streams.guests import CELLAR, ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Client, Database, PlayedBus


async def test_the_position_is_read_only_when_the_subscription_is_confirmed(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bus.confirms = False
    entering = asyncio.create_task(Guest(node).enter())
    await asyncio.sleep(1)
    assert database.asked == []
    bus.subscriptions[ROOM].set_result(None)
    ada = (await entering).follow(0)
    database.store(ROOM)
    bus.brings(ROOM, database.streams[ROOM].events[1])
    await end_of_tick()
    assert ada.got == [1]


async def test_what_arrives_while_the_position_is_read_is_neither_lost_nor_doubled(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    database.gate.clear()
    one = database.store(ROOM)
    entering = asyncio.create_task(Guest(node).enter())
    await end_of_tick()
    two, three = database.store(ROOM), database.store(ROOM)
    bus.brings(ROOM, three, one, two)
    database.gate.set()
    ada = (await entering).follow(1)
    await end_of_tick()
    assert ada.got == [2, 3]
    assert len(database.asked) == 1, "they are known already"


async def test_a_sweep_does_not_ask_for_what_is_not_confirmed(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    await here(node, stream=CELLAR)
    bus.confirms = False
    entering = asyncio.create_task(node.streams.enter(ROOM))
    await asyncio.sleep(20)
    assert all(asked.keys() == {CELLAR} for asked in database.asked)
    bus.subscriptions[ROOM].set_result(None)
    await entering


async def test_an_answer_for_whoever_has_left_is_ignored(
    node: Node, bus: PlayedBus, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ada = await here(node)
    database.gate.clear()
    database.store(ROOM)
    bus.brings(ROOM, database.store(ROOM))
    await asyncio.sleep(FILL_SECONDS * 2)
    ada.leave()
    entering = asyncio.create_task(Guest(node, "u2").enter())
    await end_of_tick()
    database.gate.set()
    bob = (await entering).follow(0)
    await end_of_tick()
    assert (ada.got, bob.got) == ([], [1, 2])
    assert caplog.text == ""


async def test_many_who_enter_at_once_share_one_read(node: Node, database: Database) -> None:
    guests = [Guest(node, f"u{n}", stream) for n in range(50) for stream in (ROOM, CELLAR)]
    await asyncio.gather(*(guest.enter() for guest in guests))
    assert len(database.asked) == 1
    assert database.asked[0].keys() == {ROOM, CELLAR}


async def test_who_enters_what_is_active_waits_for_nothing(node: Node, database: Database) -> None:
    await here(node)
    database.gate.clear()
    asked = len(database.asked)
    await Guest(node, "u2").enter()
    assert len(database.asked) == asked


async def test_the_last_to_leave_ends_the_subscription_and_the_node_forgets(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada, bob = await here(node), await here(node, name="u2")
    ada.leave()
    assert ROOM in bus.subscriptions
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (ada.got, bob.got) == ([], [1])
    bob.leave()
    assert ROOM not in bus.subscriptions
    bus.brings(ROOM, database.store(ROOM))
    database.store(ROOM)
    asked = len(database.asked)
    carol = (await Guest(node, "u3").enter()).follow(3)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert carol.got == [4], "where the stream is was read again"
    assert len(database.asked) > asked


async def test_a_group_with_other_members_stays_subscribed_until_they_leave_too(
    node: Node, bus: PlayedBus
) -> None:
    member = Client()
    node.subscribe(ROOM, member)
    await node.streams.enter(ROOM)
    node.unsubscribe(ROOM, member)
    assert ROOM in bus.subscriptions, "the stream needs it"
    node.subscribe(ROOM, member)
    node.streams.leave(ROOM)
    assert ROOM in bus.subscriptions, "the member needs it"
    node.unsubscribe(ROOM, member)
    assert ROOM not in bus.subscriptions


async def test_an_unknown_stream_cannot_be_entered(node: Node, bus: PlayedBus, database: Database) -> None:
    with pytest.raises(NoStream):
        await node.streams.enter("room.missing")
    assert bus.subscriptions == {}
    database.streams["room.missing"] = database.streams.pop(CELLAR)
    await node.streams.enter("room.missing")


async def test_who_gives_up_while_entering_leaves_nothing_behind(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bus.confirms = False
    first, second = (asyncio.create_task(node.streams.enter(ROOM)) for _ in range(2))
    await end_of_tick()
    first.cancel()
    await end_of_tick()
    assert ROOM in bus.subscriptions
    second.cancel()
    await end_of_tick()
    assert bus.subscriptions == {}
    assert ROOM not in node.streams
    bus.confirms = True
    await node.streams.enter(ROOM)


async def test_nobody_follows_what_they_did_not_enter(node: Node) -> None:
    with pytest.raises(RuntimeError, match=r"enter 'room\.lobby' before"):
        Guest(node).follow(0)


async def test_a_connection_follows_a_stream_once(node: Node) -> None:
    ada = await here(node)
    with pytest.raises(RuntimeError, match=r"in the group 'room\.lobby' already"):
        ada.follow(0)


async def test_streams_are_started_once_and_before_anybody_enters(bus: PlayedBus) -> None:
    node = Node("node-1", bus)
    with pytest.raises(RuntimeError, match="not started"):
        await node.streams.enter(ROOM)
    node.streams.start(Database(ROOM).read)
    with pytest.raises(RuntimeError, match="started already"):
        node.streams.start(Database(ROOM).read)
    await node.stop()
