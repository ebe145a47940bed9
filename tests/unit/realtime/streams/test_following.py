"""Whoever follows from a position gets exactly what comes behind it."""

import asyncio

import pytest
from pytest_django import Settings

from app.realtime import streams as streams_module
from app.realtime.event import Delivery, EncodedEvent
from app.realtime.node import Node
from app.realtime.stream import Reset, placed
from app.realtime.stream_audience import CATCH_UP_LIMIT, Ended
from app.realtime.stream_order import NOWHERE
from app.realtime.stream_schedule import FILL_SECONDS
from tests.unit.realtime.streams.guests import ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus


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


@pytest.mark.parametrize("read", [False, True])
async def test_who_missed_more_bytes_than_a_connection_is_sent_at_once_starts_over(
    bus: PlayedBus, database: Database, settings: Settings, read: bool
) -> None:
    """`read`: what was missed, by the caller."""
    events = [database.store(ROOM) for _ in range(10)]
    settings.UNSENT_LIMIT_BYTES = 2 * 6 * len(EncodedEvent(placed(ROOM, events[-1]), Delivery.DURABLE).frame)
    node = Node("node-1", bus)
    node.streams.start(database.read)
    ada, bob = await Guest(node).enter(), await Guest(node).enter()
    ada.follow(3, events=events[3:] if read else [])
    bob.follow(4, events=events[4:] if read else [])
    await asyncio.sleep(FILL_SECONDS)
    bus.brings(ROOM, database.store(ROOM))
    await end_of_tick()
    assert (ada.got, ada.ended) == (["stream.reset"], [Ended(Reset.TOO_FAR)])
    assert bob.got == [5, 6, 7, 8, 9, 10, 11]
    await node.stop()


async def test_what_was_missed_is_not_even_collected_where_it_is_too_much(
    bus: PlayedBus, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "READ_EVENTS", 10)
    settings.UNSENT_LIMIT_BYTES = 2 * 12 * len(database.store(ROOM).payload)
    for _ in range(100):
        database.store(ROOM)
    node = Node("node-1", bus)
    node.streams.start(database.read)
    ada = (await Guest(node).enter()).follow(0)
    await asyncio.sleep(1)
    assert (ada.got, ada.ended) == (["stream.reset"], [Ended(Reset.TOO_FAR)])
    assert max(after for asked in database.asked for after in asked.values() if after < NOWHERE) == 10
    await node.stop()


async def test_who_missed_no_more_than_the_limit_is_caught_up(node: Node, database: Database) -> None:
    for _ in range(3 + CATCH_UP_LIMIT):
        database.store(ROOM)
    ada = (await Guest(node).enter()).follow(3)
    await asyncio.sleep(1)
    assert ada.got == list(range(4, 4 + CATCH_UP_LIMIT))


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
