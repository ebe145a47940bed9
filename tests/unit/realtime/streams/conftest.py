"""A node between a bus that the test plays and a database that it fills.

Streams take their time from the loop alone, so here an hour takes no time.
"""

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable

import pytest

from app.realtime.node import Node
from tests.unit.realtime.streams.guests import CELLAR, ROOM
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus
from tests.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    return {"jumping": VirtualTimeLoop}


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
