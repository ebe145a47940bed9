"""Streams while the database is away, hangs or fails."""

import asyncio
import logging
from unittest.mock import patch

import pytest

from app.realtime.node import Node
from app.realtime.stream import Unreadable
from app.realtime.stream_order import StreamOrder
from tests.unit.realtime.streams.guests import CELLAR, ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus


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
