"""The streams of one node, between a bus that the test plays and a database that it fills. Time jumps."""

import asyncio
import logging
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
from prometheus_client import REGISTRY

from app.realtime import streams as streams_module
from app.realtime.delivery_account import Tally
from app.realtime.node import Node
from app.realtime.stream import Position, Reset, StreamEvent, Unreadable
from app.realtime.stream_audience import CATCH_UP_LIMIT, Ended, Following
from app.realtime.stream_order import HeldBytes, StreamOrder
from app.realtime.stream_schedule import FILL_SECONDS
from app.realtime.streams import NoStream
from tests.unit.realtime.streams.stored_streams import Client, Database, PlayedBus, Stored

ROOM = "room.lobby"
CELLAR = "room.cellar"


@pytest.fixture
async def bus() -> PlayedBus:
    return PlayedBus()


@pytest.fixture
async def database() -> Database:
    return Database(ROOM, CELLAR)


@pytest.fixture
async def node(bus: PlayedBus, database: Database) -> AsyncIterator[Node]:
    node = Node("node-1", bus)
    node.streams.start(database.read)
    yield node
    await node.stop()


class Guest(Client):
    """Somebody who follows a stream, and is told the end."""

    def __init__(self, node: Node, name: str = "u1", stream: str = ROOM) -> None:
        super().__init__()
        self.node = node
        self.name = name
        self.stream = stream
        self.ended: list[Ended] = []
        self.following: Following

    async def enter(self) -> "Guest":
        await self.node.streams.enter(self.stream)
        return self

    def follow(self, after: int, epoch: int = 1, events: list[StreamEvent] | None = None) -> "Guest":
        position = Position(epoch, after)
        self.following = self.node.streams.follow(
            self.stream, self, person=self.name, after=position, ended=self.ended.append, events=events or []
        )
        return self

    def leave(self) -> None:
        self.following.end()
        self.node.streams.leave(self.stream)


async def here(node: Node, after: int = 0, name: str = "u1", stream: str = ROOM) -> Guest:
    """Somebody who follows from `after`, with the sweep of the beginning behind them."""
    guest = (await Guest(node, name, stream).enter()).follow(after)
    await asyncio.sleep(0)
    return guest


async def end_of_tick() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


# In order, without holes, once ---------------------------------------------------------------------------


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


# Holes ---------------------------------------------------------------------------------------------------


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


# Sweeps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("healthy", "seconds"), [(True, 5.0), (False, 1.0)])
async def test_what_the_bus_lost_without_a_trace_is_swept_up(
    node: Node, database: Database, healthy: bool, seconds: float
) -> None:
    node.streams.healthy = lambda: healthy
    ada, bob = await here(node), await here(node, stream=CELLAR)
    await asyncio.sleep(seconds * 3)
    asked = len(database.asked)
    await asyncio.sleep(seconds * 10)
    assert database.asked[asked:] == [{ROOM: 0, CELLAR: 0}] * 10
    database.store(ROOM), database.store(CELLAR)
    await asyncio.sleep(seconds)
    assert (ada.got, bob.got) == ([1], [1])


async def test_sweeps_come_faster_within_a_second_of_trouble(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    await asyncio.sleep(5.5)
    node.streams.healthy = lambda: False
    database.store(ROOM)
    await asyncio.sleep(1)
    assert ada.got == [1]


async def test_everything_is_read_at_once_when_the_bus_is_back(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    await asyncio.sleep(5)
    database.store(ROOM)
    bus.turns(up=True)
    await end_of_tick()
    assert ada.got == [1]


async def test_a_sweep_that_was_asked_before_the_bus_was_back_does_not_count(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    database.gate.clear()
    await asyncio.sleep(6)
    database.store(ROOM)
    bus.turns(up=True)
    database.gate.set()
    await asyncio.sleep(0.01)
    assert ada.got == [1]


async def test_filling_holes_does_not_put_off_the_sweep(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    node.streams.healthy = lambda: False
    await here(node)
    bob = await here(node, stream=CELLAR)
    await asyncio.sleep(5.01)
    database.store(CELLAR)
    for _ in range(2):
        database.store(ROOM)
        bus.brings(ROOM, database.store(ROOM))
        await asyncio.sleep(0.6)
    assert bob.got == [1]


async def test_a_node_without_active_streams_asks_nothing(node: Node, database: Database) -> None:
    (await here(node)).leave()
    asked = len(database.asked)
    await asyncio.sleep(3600)
    assert len(database.asked) == asked


async def test_an_idle_stream_costs_neither_a_task_nor_a_timer(bus: PlayedBus) -> None:
    database = Database(*[f"room.{n}" for n in range(300)])
    node = Node("node-1", bus)
    node.streams.start(database.read)
    await node.streams.enter("room.0")
    await asyncio.sleep(1.5)
    loop = asyncio.get_running_loop()

    def cost() -> tuple[int, int]:
        waiting = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        return len(asyncio.all_tasks()), len(waiting)

    before = cost()
    await asyncio.gather(*(node.streams.enter(f"room.{n}") for n in range(1, 300)))
    for n in range(300):
        Guest(node, stream=f"room.{n}").follow(0)
    await asyncio.sleep(10.1)
    assert cost() == before
    await node.stop()


# Entering and leaving ------------------------------------------------------------------------------------


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


# Following from a position -------------------------------------------------------------------------------


async def test_who_comes_back_gets_exactly_what_was_missed_and_then_what_comes(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    events = [database.store(ROOM) for _ in range(5)]
    ada = await Guest(node).enter()
    asked = len(database.asked)
    ada.follow(2, events=events[1:])
    assert ada.got == [3, 4, 5], "all that is known is sent when `follow` returns"
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert ada.got == [3, 4, 5, 6]
    assert len(database.asked) == asked


async def test_what_the_caller_read_beyond_the_hub_is_not_sent_twice(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await Guest(node).enter()
    events = [database.store(ROOM) for _ in range(4)]
    bus.brings(ROOM, *events[:2])
    ada.follow(0, events=events)
    assert ada.got == [1, 2]
    bus.brings(ROOM, *events[2:])
    await end_of_tick()
    assert ada.got == [1, 2, 3, 4]


async def test_what_was_kept_for_somebody_who_came_is_not_mixed_with_what_is_kept_for_the_next(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await Guest(node).enter()
    bus.brings(ROOM, database.store(ROOM), database.store(ROOM))
    ada.follow(2)
    bus.brings(ROOM, database.store(ROOM))
    bob = await Guest(node, "u2").enter()
    bus.brings(ROOM, database.store(ROOM))
    bob.follow(0)
    await end_of_tick()
    assert (ada.got, bob.got) == ([3, 4], [1, 2, 3, 4])


async def test_a_text_that_was_deleted_is_not_sent_from_what_was_encoded_before(
    node: Node, database: Database
) -> None:
    event = database.store(ROOM)
    ada, bob = await Guest(node).enter(), await Guest(node, "u2").enter()
    ada.follow(0, events=[event])
    await end_of_tick()
    bob.follow(0, events=[event._replace(payload=b"")])
    assert [frame["event"] for frame in ada.frames + bob.frames] == ["test.said", "stream.blanked"]


async def test_what_waits_for_the_end_of_the_tick_is_not_sent_twice_to_who_comes_amid_it(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    ada = await Guest(node).enter()
    events = [database.store(ROOM) for _ in range(2)]
    bus.brings(ROOM, *events)
    ada.follow(0, events=events)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert ada.got == bob.got == [1, 2, 3]


async def test_what_came_between_the_callers_read_and_follow_needs_no_other_read(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    events = [database.store(ROOM) for _ in range(3)]
    ada = await Guest(node).enter()
    bus.brings(ROOM, *[database.store(ROOM) for _ in range(4)])
    asked = len(database.asked)
    ada.follow(1, events=events)
    assert ada.got == [2, 3, 4, 5, 6, 7]
    assert len(database.asked) == asked


async def test_a_position_from_a_snapshot_newer_than_the_hub_gets_what_comes_after_it(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    events = [database.store(ROOM) for _ in range(4)]
    ada = (await Guest(node).enter()).follow(3)
    bus.brings(ROOM, *events[:2])
    await end_of_tick()
    assert (ada.got, bob.got) == ([], [1, 2])
    bus.brings(ROOM, *events[2:])
    await end_of_tick()
    assert (ada.got, bob.got) == ([4], [1, 2, 3, 4])


async def test_a_snapshot_newer_than_the_hub_tells_it_that_it_is_behind(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    for _ in range(4):
        database.store(ROOM)
    ada = (await Guest(node).enter()).follow(4)
    await asyncio.sleep(FILL_SECONDS * 2)
    assert (ada.got, bob.got) == ([], [1, 2, 3, 4])
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (ada.got, bob.got) == ([5], [1, 2, 3, 4, 5])


async def test_what_the_caller_did_not_read_is_read_for_all_at_once(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    for _ in range(30):
        database.store(ROOM)
    guests = [await Guest(node, f"u{n}").enter() for n in range(20)]
    asked = len(database.asked)
    for n, guest in enumerate(guests):
        guest.follow(n)
    await end_of_tick()
    assert [guest.got for guest in guests] == [list(range(n + 1, 31)) for n in range(20)]
    assert len(database.asked) == asked + 1


async def test_a_shared_read_that_falls_short_is_repeated(
    node: Node, bus: PlayedBus, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "READ_EVENTS", 4)
    for _ in range(10):
        database.store(ROOM)
    ada, bob = await Guest(node).enter(), await Guest(node, "u2").enter()
    asked = len(database.asked)
    ada.follow(0), bob.follow(5)
    while not (ada.got and bob.got):
        bus.brings(ROOM, database.store(ROOM))
        await asyncio.sleep(0.01)
    await end_of_tick()
    last = database.streams[ROOM].last
    assert ada.got == list(range(1, last + 1))
    assert bob.got == list(range(6, last + 1))
    assert len(database.asked) - asked > 1


async def test_in_the_busiest_room_whoever_comes_back_is_let_in_after_one_read(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    for _ in range(100):
        database.store(ROOM)
    ada = await Guest(node).enter()
    database.gate.clear()
    asked = len(database.asked)
    ada.follow(10)
    for _ in range(500):
        bus.brings(ROOM, database.store(ROOM))
        await asyncio.sleep(0.001)
    database.gate.set()
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert ada.got == list(range(11, 602))
    assert len(database.asked) == asked + 1


async def test_who_leaves_while_being_caught_up_gets_nothing_more(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    for _ in range(5):
        database.store(ROOM)
    ada, bob = await Guest(node).enter(), await Guest(node, "u2").enter()
    ada.follow(0), bob.follow(7)
    for guest in (ada, bob):
        guest.following.end()
    await asyncio.sleep(10)
    assert (ada.got, bob.got, ada.ended, bob.ended) == ([], [], [], [])


@pytest.mark.parametrize(
    ("epoch", "after", "reason"),
    [
        (2, 5, Reset.EPOCH),
        (1, 7_000, Reset.AHEAD),
        (1, 1, Reset.PURGED),
        (1, 3, Reset.TOO_FAR),
    ],
)
async def test_who_cannot_go_on_is_told_why(
    node: Node, database: Database, epoch: int, after: int, reason: Reset
) -> None:
    for _ in range(3 + CATCH_UP_LIMIT + 1):
        database.store(ROOM)
    database.purge(ROOM, 3)
    ada = (await Guest(node).enter()).follow(after, epoch)
    assert ada.ended == []
    await asyncio.sleep(1)
    assert ada.frames == [{"event": "stream.reset", "data": {"stream": ROOM, "reason": reason}}]
    assert ada.ended == [Ended(reason)]


async def test_who_missed_no_more_than_the_limit_is_caught_up(node: Node, database: Database) -> None:
    for _ in range(3 + CATCH_UP_LIMIT):
        database.store(ROOM)
    ada = (await Guest(node).enter()).follow(3)
    await asyncio.sleep(1)
    assert ada.got == list(range(4, 4 + CATCH_UP_LIMIT))


# Another life --------------------------------------------------------------------------------------------


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


# Removals ------------------------------------------------------------------------------------------------


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


# The account ---------------------------------------------------------------------------------------------


async def test_who_was_to_get_an_event_and_who_says_so_is_accounted_for(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    class Closing(Guest):
        def deliver(self, batch: object) -> bool:  # type: ignore[override]
            return False

    account = node.streams.account
    ada, bob, carol = await here(node), await here(node, name="u2"), await here(node, name="u3")
    (await Closing(node, "u4").enter()).follow(0)
    bus.brings(ROOM, database.store(ROOM))
    carol.leave()
    await end_of_tick()
    assert account.tally(ROOM, 1) == Tally(expected=4, written=2, confirmed=0, recovered=0)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    ada.following.confirm(2)
    bob.following.confirm(1)
    assert account.tally(ROOM, 1) == Tally(4, 2, 2, 0)
    assert account.tally(ROOM, 2) == Tally(3, 2, 1, 0)
    bob.following.confirm(2)
    assert account.tally(ROOM, 1, epoch=1) == Tally(4, 2, 2, 0)
    assert account.tally(ROOM, 2) == Tally(3, 2, 2, 0)


async def test_what_a_client_cannot_have_it_cannot_confirm(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    account = node.streams.account
    database.store(ROOM)
    ada, ahead = await here(node, after=1), (await Guest(node, "u2").enter()).follow(9)
    for _ in range(2):
        bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    for sequence in (0, 1, 4, 2**53, 3, 2, 3, 3):  # it has 2 and 3
        ada.following.confirm(sequence)
    ahead.following.confirm(10)
    ada.leave()
    ada.following.confirm(4)
    assert [account.tally(ROOM, sequence) for sequence in range(1, 5)] == [
        None,
        Tally(1, 1, 1, 0),
        Tally(1, 1, 1, 0),
        None,
    ]


async def test_who_comes_back_is_accounted_for_up_to_a_removal(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    events = [database.store(ROOM, removes) for removes in ("", "u2", "")]
    bob, ada = await Guest(node, "u2").enter(), await Guest(node).enter()
    for guest in (bob, ada):
        guest.follow(0, events=events)
    ada.following.confirm(3)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    tallies = [node.streams.account.tally(ROOM, sequence) for sequence in range(1, 5)]
    assert tallies == [Tally(0, 0, 1, 2), Tally(0, 0, 1, 2), Tally(0, 0, 1, 1), Tally(1, 1, 0, 0)]


async def test_a_removal_is_expected_by_those_who_are_left_only_after_it(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    await here(node), await here(node, name="u2")
    bus.brings(ROOM, database.store(ROOM, removes="u2"), database.store(ROOM))
    await end_of_tick()
    assert node.streams.account.tally(ROOM, 1) == Tally(2, 2, 0, 0)
    assert node.streams.account.tally(ROOM, 2) == Tally(1, 1, 0, 0)


async def test_in_another_life_of_the_stream_the_account_begins_anew(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    bus.brings(ROOM, database.store(ROOM))
    database.streams[ROOM] = Stored(epoch=2)
    bus.brings(ROOM, database.store(ROOM))
    await asyncio.sleep(6)
    assert ada.ended == [Ended(Reset.EPOCH)]
    ada.following.confirm(1)
    (await Guest(node).enter()).follow(1, epoch=2)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    account = node.streams.account
    assert account.tally(ROOM, 2, epoch=2) == Tally(1, 1, 0, 0)
    assert account.tally(ROOM, 1) is None


# A database that is away ---------------------------------------------------------------------------------


async def test_with_the_database_away_the_bus_goes_on_and_holes_are_filled_later(
    node: Node, bus: PlayedBus, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ada, bob = await here(node), await here(node, stream=CELLAR)
    database.error = Unreadable("no database")
    database.store(ROOM)
    bus.brings(ROOM, database.store(ROOM))
    with caplog.at_level(logging.INFO):
        await asyncio.sleep(30)
        bus.brings(CELLAR, database.store(CELLAR))
        await end_of_tick()
        assert (ada.got, bob.got) == ([], [1])
        assert (ada.ended, bob.ended) == ([], [])
        database.error = None
        await asyncio.sleep(1.1)
    assert ada.got == [1, 2]
    assert caplog.text.count("does not answer") == 1
    assert "Traceback" not in caplog.text
    assert caplog.text.count("answers again") == 1


async def test_with_the_database_away_who_enters_is_told_and_leaves_nothing_behind(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    database.error = Unreadable("no database")
    results = await asyncio.gather(*(Guest(node, f"u{n}").enter() for n in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no database"] * 3
    assert bus.subscriptions == {}
    database.error = None
    await node.streams.enter(ROOM)


async def test_a_fault_of_ours_in_a_read_is_told_in_full_and_ends_nothing(
    node: Node, bus: PlayedBus, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ada = await here(node)
    database.error = RuntimeError("a bug")
    database.store(ROOM)
    await asyncio.sleep(10)
    assert caplog.text.count("Traceback") == 1
    database.error = None
    await asyncio.sleep(6)
    assert ada.got == [1]


async def test_a_fault_of_ours_in_one_stream_stops_no_other_and_keeps_nobody_waiting(
    node: Node, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with patch.object(StreamOrder, "start", side_effect=RuntimeError("a bug")), pytest.raises(RuntimeError):
        await Guest(node).enter()
    assert "could not go on with room.lobby" in caplog.text
    await here(node, stream=CELLAR)
    await here(node)


async def test_a_database_that_hangs_is_one_that_is_away(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    database.gate.clear()
    with pytest.raises(Unreadable, match="no word for 5 s"):
        await Guest(node, stream=CELLAR).enter()
    database.store(ROOM)
    database.gate.set()
    await asyncio.sleep(7)
    assert bob.got == [1]


async def test_with_the_database_away_who_comes_back_waits_and_nobody_else(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    bob = await here(node, name="u2")
    for _ in range(3):
        bus.brings(ROOM, database.store(ROOM))
    bob.leave()
    carol, ada = await here(node, after=3, name="u3"), await Guest(node).enter()
    database.error = Unreadable("no database")
    ada.follow(0)
    await asyncio.sleep(3)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (ada.got, carol.got) == ([], [4])
    database.error = None
    await asyncio.sleep(1.1)
    assert ada.got == [1, 2, 3, 4]


async def test_a_subscriber_that_fails_costs_nobody_else_anything(
    node: Node, bus: PlayedBus, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Guest):
        def deliver(self, batch: object) -> None:
            raise RuntimeError("a bug")

    for _ in range(3):
        database.store(ROOM)
    broken, ada = await Broken(node, "u2").enter(), await Guest(node).enter()
    broken.follow(0), ada.follow(0)
    await end_of_tick()
    assert ada.got == [1, 2, 3]
    assert "a bug" in caplog.text


async def test_sweeps_fills_and_holes_are_counted(node: Node, bus: PlayedBus, database: Database) -> None:
    names: list[tuple[str, dict[str, str]]] = [
        ("carillon_streams", {}),
        ("carillon_stream_holes_total", {}),
        ("carillon_stream_fills_total", {}),
        ("carillon_stream_sweeps_total", {"outcome": "found"}),
        ("carillon_subscriptions", {}),
    ]
    before = [sample(name, **labels) for name, labels in names]
    await here(node)
    database.store(ROOM)
    bus.brings(ROOM, database.store(ROOM))
    await asyncio.sleep(1)
    database.store(ROOM)
    await asyncio.sleep(5)
    after = [sample(name, **labels) for name, labels in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 2 + 1, 1, 1]
