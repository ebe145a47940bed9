"""The streams of one node, between a bus that the test plays and a database that it fills. Time jumps."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.realtime.node import Node
from app.realtime.stream import Position
from app.realtime.stream_audience import Ended, Following
from tests.unit.realtime.streams.stored_streams import Client, Database, PlayedBus

ROOM = "room.lobby"


@pytest.fixture
async def bus() -> PlayedBus:
    return PlayedBus()


@pytest.fixture
async def database() -> Database:
    return Database(ROOM, "room.cellar")


@pytest.fixture
async def node(bus: PlayedBus, database: Database) -> AsyncIterator[Node]:
    node = Node("node-1", bus)
    node.streams.start(database.read)
    yield node
    await node.stop()


class Guest(Client):
    """Somebody who follows, and is told the end."""

    def __init__(self, name: str = "u1") -> None:
        super().__init__()
        self.name = name
        self.ended: list[Ended] = []
        self.following: Following

    async def follow(self, node: Node, database: Database, after: int | None = None) -> None:
        await node.streams.enter(ROOM)
        stored = database.streams[ROOM]
        position = Position(stored.epoch, stored.last if after is None else after)
        self.following = node.streams.follow(
            ROOM, self, person=self.name, after=position, ended=self.ended.append
        )

    def leave(self, node: Node) -> None:
        self.following.end()
        node.streams.leave(ROOM)


async def end_of_tick() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_this_node_stores_is_delivered_here_and_published(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = Guest()
    await ada.follow(node, database)
    event = database.store(ROOM)
    node.streams.committed([(ROOM, event)])
    await end_of_tick()
    assert ada.frames == [
        {"stream": ROOM, "sequence": 1, "event": "test.said", "data": {"epoch": event.epoch}}
    ]
    assert bus.events() == [(ROOM, event)]


async def test_what_the_bus_repeats_drops_and_reorders_arrives_in_order_and_once(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = Guest()
    await ada.follow(node, database)
    one, two, three, four = [database.store(ROOM) for _ in range(4)]
    bus.brings(ROOM, two, one, two, four)
    await end_of_tick()
    assert ada.got == [1, 2]
    await asyncio.sleep(0.2)
    assert ada.got == [1, 2, 3, 4]
    bus.brings(ROOM, three, one, four)
    await asyncio.sleep(10)
    assert ada.got == [1, 2, 3, 4]
