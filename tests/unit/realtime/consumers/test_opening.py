"""How a connection begins: hello, accept, and what waits for it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings

from app.realtime import close_codes
from app.realtime.node import Node
from tests.unit.realtime.consumers.clients import Connect
from tests.unit.realtime.consumers.kinds import Slow
from tests.unit.realtime.consumers.wires import settle, until


async def test_the_first_frame_is_hello(connect: Connect, node: Node, settings: Settings) -> None:
    before = datetime.now(UTC)
    client = await connect()
    (hello,) = client.wire.frames
    assert hello["event"] == "hello"
    data = hello["data"]
    assert data["protocol"] == 1
    assert data["node"] == node.name
    assert data["bus_connected"] is True
    assert before <= datetime.fromisoformat(data["time"]) <= datetime.now(UTC)
    assert data["user"] == {"id": "u1", "name": "ada", "guest": False}
    assert data["limits"]["frame_bytes"] == settings.FRAME_LIMIT_BYTES
    other = await connect()
    assert other.wire.frames[0]["data"]["connection"] != data["connection"]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([], None), (["carillon.v1"], "carillon.v1"), (["x", "carillon.v1"], "carillon.v1"), (["v2"], None)],
)
async def test_our_subprotocol_is_chosen_if_it_was_offered(
    connect: Connect, offered: list[str], chosen: str | None
) -> None:
    client = await connect(subprotocols=offered)
    assert client.wire.subprotocol == chosen


async def test_who_waits_for_accept_is_called_with_the_connection(connect: Connect) -> None:
    accepted: list[Any] = []
    client = await connect(on_accept=[accepted.append])
    assert accepted == [client.consumer.connection]


async def test_commands_wait_until_connected_returns(connect: Connect) -> None:
    client = await connect(Slow)
    first = client.send("echo", "a")
    await settle()
    assert client.consumer.done == []
    client.consumer.gate.set()
    await client.answer(first)
    assert client.consumer.done == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncio.CancelledError()])
async def test_connected_that_fails_closes_with_4002_and_runs_no_command(
    connect: Connect, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Slow):
        async def connected(self) -> None:
            await super().connected()
            raise error

    client = await connect(Failing)
    client.send("echo", "never")
    client.consumer.gate.set()
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.CONSUMER_FAILED
    await client.wire.lose(1001)
    assert client.consumer.done == []
    assert client.consumer.codes == [close_codes.CONSUMER_FAILED]
    [said] = [record for record in caplog.records if "connected failed" in record.getMessage()]
    assert vars(said)["connection"] == client.wire.frames[0]["data"]["connection"], "the id that hello told"
