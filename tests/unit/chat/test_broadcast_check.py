"""The check among stand-ins for nodes, which share a bus that can be told to fail."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.typing import Subprotocol

from app.chat import broadcast_check
from app.chat.broadcast_check import Address, CheckFailed, Listener, NodeLeft, check_broadcast, find_nodes

HOST = "127.0.0.1"


class Bus:
    """Hands what is said on one node to the others: once, in order, unless `spoil` does something else."""

    def __init__(self) -> None:
        self.rooms: dict[str, ServerConnection] = {}
        self.hosts: list[str | None] = []
        self.busy = 0
        self.tells_who_is_there = True
        self.kept: list[str] = []

    async def publish(self, node: str, event: str) -> None:
        for name, connection in self.rooms.items():
            for text in self.spoil(node, name, event):
                await connection.send(text)

    def spoil(self, speaker: str, listener: str, event: str) -> list[str]:
        return [event]


class DeafBus(Bus):
    def spoil(self, speaker: str, listener: str, event: str) -> list[str]:
        return [event] if speaker == listener else []


class StutteringBus(Bus):
    def spoil(self, speaker: str, listener: str, event: str) -> list[str]:
        return [event] * (2 if (speaker, listener) == ("node-1", "node-2") else 1)


class ConfusedBus(Bus):
    """Node 2 hears the first words of node 1 last."""

    def spoil(self, speaker: str, listener: str, event: str) -> list[str]:
        if (speaker, listener) != ("node-1", "node-2") or "presence" in event:
            return [event]
        self.kept.append(event)
        return self.kept[::-1] if len(self.kept) == len(broadcast_check.NUMBERS) else []


class StandIn:
    """Speaks as much of the protocol as a check needs."""

    def __init__(self, name: str, bus: Bus, connected: bool = True) -> None:
        self.name = name
        self.bus = bus
        self.connected = connected

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.bus.hosts.append(connection.request.headers.get("Host"))
        hello = {"protocol": 1, "node": self.name, "bus_connected": self.connected}
        await connection.send(json.dumps({"event": "hello", "data": hello}))
        async for text in connection:
            command = json.loads(text)
            await self.answer(connection, command["id"], command["command"], command["data"])

    async def answer(
        self, connection: ServerConnection, number: int, name: str, data: dict[str, Any]
    ) -> None:
        if self.bus.busy:
            self.bus.busy -= 1
            error = {"code": "rate_limited", "message": "too many", "retry_after": 0.01}
            await connection.send(json.dumps({"id": number, "error": error}))
            return
        reply: dict[str, Any] = {}
        if name == "chat.join_room":
            self.bus.rooms[self.name] = connection
            reply = {"members": [{"nodes": [self.name]}]}
            if self.bus.tells_who_is_there:
                for node in list(self.bus.rooms):
                    moved = {"event": "presence.moved", "data": {"member": {"nodes": [node]}}}
                    await self.bus.publish(node, json.dumps(moved))
        elif name == "chat.post_message":
            posted = {"message_id": data["key"], "room": data["room"]}
            await self.bus.publish(self.name, json.dumps({"event": "chat.message_posted", "data": posted}))
        await connection.send(json.dumps({"id": number, "reply": reply}))


@asynccontextmanager
async def running(*stand_ins: StandIn) -> AsyncIterator[list[Address]]:
    async with AsyncExitStack() as stack:
        addresses = []
        for one in stand_ins:
            started = serve(one.serve, HOST, 0, subprotocols=[Subprotocol("carillon.v1")])
            server = await stack.enter_async_context(started)
            addresses.append((HOST, int(next(iter(server.sockets)).getsockname()[1])))
        yield addresses


async def check(addresses: list[Address], wanted: int = 2, seconds: float = 5.0) -> list[Listener]:
    async with AsyncExitStack() as stack:
        found = await find_nodes(
            addresses, "chat.example", lambda: "signed", wanted=wanted, seconds=seconds, stack=stack
        )
        await check_broadcast(found, "quiet", seconds)
        return found


async def test_nodes_that_hear_each_other_pass() -> None:
    bus = Bus()
    async with running(*(StandIn(f"node-{number}", bus) for number in (1, 2, 3))) as addresses:
        found = await check(addresses)
    assert [one.node for one in found] == ["node-1", "node-2", "node-3"]
    assert all(one.heard == {f"node-{number}": [1, 2, 3, 4, 5] for number in (1, 2, 3)} for one in found)
    assert bus.hosts == ["chat.example"] * 3


@pytest.mark.parametrize(
    ("bus", "problems"),
    [
        (
            DeafBus(),
            "node-1 did not hear node-2 (5 of 5 messages are missing); "
            "node-2 did not hear node-1 (5 of 5 messages are missing)",
        ),
        (StutteringBus(), "node-2 heard node-1 twice (1 1 2 2 3 3 4 4 5 5)"),
        (ConfusedBus(), "node-2 heard node-1 in another order (5 4 3 2 1)"),
    ],
)
async def test_who_did_not_hear_whom_is_said(bus: Bus, problems: str) -> None:
    async with running(StandIn("node-1", bus), StandIn("node-2", bus)) as addresses:
        with pytest.raises(CheckFailed) as failed:
            await check(addresses, seconds=0.5)
    assert str(failed.value) == f"within 0.5 s {problems}"


async def test_messages_alone_do_not_prove_a_bus() -> None:
    bus = Bus()
    bus.tells_who_is_there = False
    async with running(StandIn("node-1", bus), StandIn("node-2", bus)) as addresses:
        with pytest.raises(CheckFailed) as failed:
            await check(addresses, seconds=0.5)
    assert str(failed.value) == (
        "within 0.5 s node-1 does not hear node-2 (what is said there came out of the database); "
        "node-2 does not hear node-1 (what is said there came out of the database)"
    )


async def test_a_name_stands_for_all_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus()
    async with running(StandIn("node-1", bus), StandIn("node-2", bus)) as addresses:

        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            assert (host, port) == ("carillon-internal", 8000)
            return [(None, None, None, "", address) for address in [*addresses, addresses[0]]]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        assert len(await check([("carillon-internal", 8000)])) == 2


async def test_behind_one_address_several_nodes_are_found() -> None:
    bus = Bus()
    turns = iter([StandIn("node-1", bus), StandIn("node-1", bus), StandIn("node-2", bus)])
    balancer = StandIn("balancer", bus)
    balancer.serve = lambda connection: next(turns).serve(connection)  # type: ignore[method-assign]
    async with running(balancer) as addresses:
        assert [one.node for one in await check(addresses)] == ["node-1", "node-2"]


async def test_a_node_that_leaves_before_a_command_is_sent_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Leaving:
        sent = asyncio.Event()

        async def send(self, text: str) -> None:
            self.sent.set()
            raise ConnectionClosedError(Close(1012, "leaving"), None)

        async def recv(self) -> str:
            await self.sent.wait()
            raise ConnectionClosedError(Close(1012, "leaving"), None)

        async def close(self) -> None: ...

    hello = {"node": "node-1", "bus_connected": True}
    listener = Listener(Leaving(), (HOST, 1), hello)  # type: ignore[arg-type]  # as much of it as is used
    listener.listen(broadcast_check.Conversation(["node-1"]))
    with pytest.raises(NodeLeft):
        await listener.command("ping")
    await listener.close()
    del listener
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_node_that_is_told_to_wait_waits() -> None:
    bus = Bus()
    bus.busy = 7
    async with running(StandIn("node-1", bus), StandIn("node-2", bus)) as addresses:
        await check(addresses)
    assert not bus.busy


async def test_a_node_that_stays_busy_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_check, "BUSY_SECONDS", 0.1)
    bus = Bus()
    bus.busy = 10**6
    async with running(StandIn("node-1", bus)) as addresses, asyncio.timeout(10):
        with pytest.raises(CheckFailed, match=r"node-1 refused chat\.join_room: rate_limited: too many"):
            await check(addresses, wanted=1)


async def test_too_few_nodes_are_counted_and_the_others_say_why() -> None:
    bus = Bus()
    async with running(StandIn("node-1", bus), StandIn("node-2", bus, connected=False)) as addresses:
        gone = (HOST, 1)
        with pytest.raises(CheckFailed) as failed:
            await check([*addresses, gone], seconds=0.1)
    said = str(failed.value)
    assert said.startswith("found 1 of 2 nodes within 0.1 s (node-1); ")
    assert "node-2 is not connected to the bus" in said and f"{HOST}:1 cannot be reached" in said


@pytest.mark.parametrize(("code", "kind"), [(1012, NodeLeft), (1011, CheckFailed)])
@pytest.mark.parametrize("answered", [1, 2])
async def test_a_node_that_leaves_during_the_check_is_named(
    code: int, kind: type[CheckFailed], answered: int
) -> None:
    class Leaving(StandIn):
        commands = 0

        async def answer(self, connection: ServerConnection, *command: Any) -> None:
            self.commands += 1
            if self.commands > answered:
                await connection.close(code)
            else:
                await super().answer(connection, *command)

    bus = Bus()
    async with running(StandIn("node-1", bus), Leaving("node-2", bus)) as addresses:
        with pytest.raises(CheckFailed, match=f"node-2 closed the connection: received {code}") as failed:
            await check(addresses)
    assert type(failed.value) is kind
