"""What became of an event, asked on one node of many: who knows something, who nothing, who says nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.realtime.delivery_questions import ANSWER_SECONDS, GROUP, Deliveries, NodeTally
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import Node
from app.realtime.stream import Position

ROOM = "room.lobby"
PLACE = Position(epoch=1, sequence=7)


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    nodes = [Node(name, MemoryBroker()) for name in ("node-1", "node-2", "node-3")]
    for node in nodes:
        node.start_beacons()
    for node in nodes:
        for other in nodes:
            other.start_beacons().hearing.heard(node.start_beacons().own(), asyncio.get_running_loop().time())
    yield nodes
    for node in nodes:
        await node.stop()


async def ask(node: Node) -> Deliveries:
    async with asyncio.timeout(30):
        return await node.deliveries(ROOM, PLACE)


async def test_who_knows_of_the_event_says_so(nodes: list[Node]) -> None:
    one, _, three = nodes
    one.streams.account.given(ROOM, 1, 7, 2)(1)
    three.streams.account.recovered(ROOM, 1, 7, 7)
    expected = Deliveries([NodeTally("node-1", 2, 1, 0, 0), NodeTally("node-3", 0, 0, 0, 1)], [])
    assert await asyncio.gather(*map(ask, nodes)) == [expected] * 3


async def test_another_life_of_the_stream_is_another_event(nodes: list[Node]) -> None:
    nodes[0].streams.account.given(ROOM, 2, 7, 2)(2)
    nodes[1].streams.account.given(ROOM, 2, 7, 2)(2)
    assert await ask(nodes[0]) == await ask(nodes[2]) == Deliveries([], [])


async def test_who_does_not_answer_is_named(nodes: list[Node]) -> None:
    one, two, three = nodes
    two.streams.account.given(ROOM, 1, 7, 1)(1)
    three.end_listening(GROUP)
    assert await ask(one) == Deliveries([NodeTally("node-2", 1, 1, 0, 0)], ["node-3"])
    two.questions.take_answer(b'{"number":1,"incarnation":"late","tally":null}')  # of no use, and harmless


async def test_a_node_without_beacons_speaks_for_itself(nodes: list[Node]) -> None:
    alone = Node("alone", MemoryBroker())
    alone.streams.account.given(ROOM, 1, 7, 1)(1)
    assert await ask(alone) == Deliveries([NodeTally("alone", 1, 1, 0, 0)], [])
    await alone.stop()


async def test_what_is_not_understood_is_skipped(nodes: list[Node]) -> None:
    one, two, _ = nodes
    for group in (GROUP, one.questions.answers, two.questions.answers):
        two.publish_bytes(group, b"{}")
    two.streams.account.given(ROOM, 1, 7, 1)(1)
    assert (await ask(one)).nodes == [NodeTally("node-2", 1, 1, 0, 0)]


async def test_questions_leave_nothing_behind(nodes: list[Node]) -> None:
    nodes[2].end_listening(GROUP)
    asking = asyncio.create_task(ask(nodes[0]))
    await asyncio.sleep(ANSWER_SECONDS / 10)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await ask(nodes[0])
    assert nodes[0].questions._rounds == {}
