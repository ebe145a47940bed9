"""Nothing is left behind, whatever the way out."""

import asyncio

import pytest

from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import EVERYONE, Node
from tests.unit.realtime.consumers.clients import Connect, sample
from tests.unit.realtime.consumers.kinds import Clings, Consumer, Slow
from tests.unit.realtime.consumers.wires import MailboxWire, settle


def left_behind(node: Node) -> dict[str, float]:
    assert isinstance(node.broker, MemoryBroker)
    return {
        "everyone": node.hub.members(EVERYONE),
        "groups": node.hub.groups(),
        "subscriptions": sample("carillon_subscriptions"),
        "bus": len(node.broker._groups),
        "tasks": len(asyncio.all_tasks()),
    }


class LeavesBadly(Consumer):
    async def connected(self) -> None:
        await self.subscribe("room")

    def disconnected(self, code: int) -> None:
        super().disconnected(code)
        raise RuntimeError("a bug")


class ComesBack(LeavesBadly):
    def disconnected(self, code: int) -> None:
        self.codes.append(code)
        self.subscribe("room")


@pytest.mark.parametrize("kind", [Consumer, Slow, LeavesBadly, ComesBack, Clings])
@pytest.mark.parametrize("last", [None, "join", "wait", "cling", "fail"])
async def test_nothing_is_left_behind_whatever_the_way_out(
    connect: Connect, node: Node, kind: type[Consumer], last: str | None
) -> None:
    before = left_behind(node)
    client = await connect(kind)
    if last:
        client.send(last, "room")
        client.send("join", "another room")
    await settle()
    await client.wire.lose(1001)
    await settle()
    assert left_behind(node) == before
    assert client.consumer.codes == [1001]


async def test_a_client_that_vanishes_cancels_the_command_that_runs(connect: Connect) -> None:
    client = await connect()
    client.send("wait", "never")
    await settle()
    await client.wire.lose(1001)
    client.consumer.gate.set()
    await settle()
    assert client.consumer.done == []


async def test_connections_are_counted_on_any_server(connect: Connect) -> None:
    async def counts() -> tuple[float, float]:
        closed = sample("carillon_connections_closed_total", code="1001")
        return sample("carillon_connections", path="mailbox"), closed

    open_before, closed_before = await counts()
    client = await connect()
    open_now, _ = await counts()
    assert open_now - open_before == (1 if isinstance(client.wire, MailboxWire) else 0)
    await client.wire.lose(1001)
    assert await counts() == (open_before, closed_before + 1)
