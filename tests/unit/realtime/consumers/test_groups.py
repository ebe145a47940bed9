"""Events of groups, from join to leave."""

from app.realtime.node import Node
from tests.unit.realtime.consumers.clients import Connect, sample
from tests.unit.realtime.consumers.wires import settle, until


async def test_events_come_from_join_to_leave_and_no_longer(connect: Connect) -> None:
    client, other = await connect(), await connect()
    await other.command("say", "before")
    await client.command("join", "room")
    await other.command("say", "while there")
    await until(lambda: client.said)
    await client.command("leave", "room")
    await other.command("say", "after")
    await settle()
    assert client.said == ["while there"]


async def test_replies_and_events_leave_in_the_order_of_calls(connect: Connect) -> None:
    client = await connect()
    await client.command("join", "room")
    frames = client.wire.frames
    for number in range(5):
        await client.command("say", str(number))
        await until(lambda: len(client.said) > number)  # noqa: B023  # awaited within the round
    assert [frame.get("id", frame.get("event")) for frame in frames[2:]] == [
        part for number in range(2, 7) for part in (number, "test.said")
    ]


async def test_joining_twice_is_joining_once(connect: Connect, node: Node) -> None:
    before = sample("carillon_subscriptions")
    client = await connect()
    await client.command("join", "room")
    await client.command("join", "room")
    assert sample("carillon_subscriptions") == before + 1
    await client.command("leave", "room")
    await client.command("leave", "room")
    assert sample("carillon_subscriptions") == before
    assert node.hub.members("room") == 0


async def test_everybody_hears_that_the_bus_changed(connect: Connect, node: Node) -> None:
    client = await connect()
    node._bus_changed(False)
    await until(lambda: len(client.wire.frames) > 1)
    assert client.wire.frames[-1] == {"event": "node.bus_changed", "data": {"connected": False}}
