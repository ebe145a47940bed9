"""Nodes with a journal, between a real database and a bus in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from app.database.thread import close_connections
from app.journal.journal import journal_of
from app.realtime.connection import Batch
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import Node
from app.realtime.stream import Position
from app.realtime.stream_audience import Ended
from tests.unit.journal.notes import banned, note

STREAM = "notes.a"


class DeafBroker(MemoryBroker):
    """Hears nothing and says nothing, and does not know it."""

    def publish(self, group: str, data: bytes) -> bool:
        return True


class Client:
    def __init__(self, person: str = "u1") -> None:
        self.person = person
        self.got: list[int] = []
        self.ended: list[Ended] = []

    def deliver(self, batch: Batch) -> None:
        self.got += [msgspec.json.decode(event.payload)["sequence"] for event in batch.events]

    async def follow(self, node: Node, after: Position) -> None:
        await node.streams.enter(STREAM)
        node.streams.follow(STREAM, self, person=self.person, after=after, ended=self.ended.append)


Nodes = Callable[..., Node]


@pytest.fixture
async def nodes(streams: None) -> AsyncIterator[Nodes]:
    made: list[Node] = []

    def make(broker: type[MemoryBroker] = MemoryBroker) -> Node:
        made.append(Node(f"node-{len(made)}", broker()))
        journal_of(made[-1])
        return made[-1]

    yield make
    for node in made:
        if node.broker.connected:
            await node.stop()
    await close_connections()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in a thread
            await asyncio.sleep(0.01)


async def test_what_is_stored_on_any_node_arrives_on_all_once_and_in_order(nodes: Nodes) -> None:
    first, second = nodes(), nodes()
    at = (await journal_of(first).append(note())).position
    ada, bob = Client(), Client()
    await ada.follow(first, at)
    await bob.follow(second, at)
    await asyncio.gather(*(journal_of(node).append(note()) for _ in range(20) for node in (first, second)))
    await until(lambda: len(ada.got) >= 40 and len(bob.got) >= 40)
    assert ada.got == bob.got == list(range(2, 42))


async def test_events_cross_nodes_that_do_not_hear_each_other(nodes: Nodes) -> None:
    first, deaf = nodes(), nodes(DeafBroker)
    deaf.streams.healthy = lambda: False
    at = (await journal_of(first).append(note())).position
    bob = Client()
    await bob.follow(deaf, at)
    first.broker.publish = lambda group, data: True  # type: ignore[method-assign]
    await asyncio.gather(*(journal_of(first).append(note()) for _ in range(5)))
    await until(lambda: len(bob.got) >= 5)
    assert bob.got == [2, 3, 4, 5, 6]


async def test_who_comes_back_gets_what_was_missed_and_nothing_after_a_removal(nodes: Nodes) -> None:
    node = nodes()
    journal = journal_of(node)
    at = (await journal.append(note())).position
    for entry in (note(), banned("u2"), note()):
        await journal.append(entry)
    ada, bob = Client("u1"), Client("u2")
    await ada.follow(node, at)
    await bob.follow(node, at)
    await until(lambda: bob.ended)
    await journal.append(note())
    await until(lambda: len(ada.got) >= 4)
    assert ada.got == [2, 3, 4, 5]
    assert bob.got == [2, 3]
    assert bob.ended == [Ended(None)]


async def test_a_node_has_one_journal_which_ends_with_it(nodes: Nodes) -> None:
    node = nodes()
    journal = journal_of(node)
    assert journal_of(node) is journal
    waiting = journal.append(note())
    await node.stop()
    assert (await waiting).position.sequence == 1
