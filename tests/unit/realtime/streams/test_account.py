"""Who was to get an event, who got it, and who says so."""

import asyncio

from app.realtime.delivery_account import Tally
from app.realtime.node import Node
from app.realtime.stream import Reset
from app.realtime.stream_audience import Ended
from tests.unit.realtime.streams.guests import ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus, Stored


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
