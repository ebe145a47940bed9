"""What is too much, too often or too large."""

from typing import Any

import pytest
from pytest_django import Settings

from app.realtime import close_codes
from app.realtime.consumers import COMMANDS_WAITING
from app.realtime.people import FLOOD_SECONDS, REFUSED_BURSTS
from app.realtime.protocol import INVALID_FRAMES_ALLOWED
from tests.unit.realtime.consumers.clients import ADA, Connect
from tests.unit.realtime.consumers.kinds import Consumer
from tests.unit.realtime.consumers.wires import MailboxWire, settle, until


async def test_too_many_invalid_frames_end_the_connection(connect: Connect) -> None:
    client = await connect()
    for _ in range(INVALID_FRAMES_ALLOWED):
        await client.refusal(b"nonsense")
    assert (await client.command("echo", "x"))["reply"]
    assert client.wire.closed_with is None
    client.wire.write(b"nonsense")
    client.send("echo", "never")
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.TOO_MANY_INVALID_FRAMES
    await settle()
    assert client.consumer.done == ["x"]


async def test_too_many_commands_are_told_when_to_try_again(connect: Connect, settings: Settings) -> None:
    settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST = 0.5, 3
    client = await connect()
    for _ in range(3):
        assert "reply" in await client.command("ping")
    error = (await client.command("ping"))["error"]
    assert error["code"] == "rate_limited"
    assert 0 < error["retry_after"] <= 2
    assert client.wire.closed_with is None


async def test_who_goes_on_sending_is_told_when_to_come_back_and_closed(
    connect: Connect, settings: Settings
) -> None:
    settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST = 0.5, 3
    client = await connect()
    for _ in range(3 + REFUSED_BURSTS * 3 + 5):
        client.send("ping")
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.FLOODED
    *_, told = client.wire.frames
    assert told["event"] == "connection.released"
    assert FLOOD_SECONDS <= told["data"]["retry_after"] <= 2 * FLOOD_SECONDS
    refused = [frame for frame in client.wire.frames if "error" in frame]
    assert len(refused) == REFUSED_BURSTS * 3 + 1


async def test_one_persons_connections_share_what_a_person_may_send(
    connect: Connect, settings: Settings
) -> None:
    settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST = 0.5, 3
    settings.COMMANDS_PER_PERSON = 0.5
    first, second = await connect(), await connect()
    for _ in range(3):
        assert "reply" in await first.command("ping")
    assert (await second.command("ping"))["error"]["code"] == "rate_limited"


async def test_a_flood_behind_a_slow_command_stops_reading_and_loses_nothing(
    connect: Connect, settings: Settings
) -> None:
    settings.COMMANDS_PER_PERSON = settings.COMMANDS_PER_SECOND = settings.COMMANDS_BURST = 10_000
    client = await connect()
    ids = [client.send("wait" if number % 7 == 0 else "echo", str(number)) for number in range(200)]
    await settle()
    assert client.consumer._waiting is not None
    assert len(client.consumer._waiting) == COMMANDS_WAITING, "the rest is not read"
    client.consumer.gate.set()
    await client.answer(ids[-1])
    assert client.answers == ids
    assert client.consumer.done == [str(number) for number in range(200)]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"bytes": b"x"}, close_codes.UNSUPPORTED_DATA),
        ({"text": "x" * 2_001}, close_codes.TOO_BIG),
        ({"text": "☃" * 667}, close_codes.TOO_BIG),
    ],
)
async def test_what_another_server_lets_through_is_judged_here(
    settings: Settings, message: dict[str, Any], code: int
) -> None:
    settings.FRAME_LIMIT_BYTES = 2_000
    wire = MailboxWire()
    await wire.connect(Consumer.as_asgi(), {"identity": ADA, "subprotocols": []})
    wire._inbox.put_nowait({"type": "websocket.receive", **message})
    await until(lambda: wire.closed_with)
    assert wire.closed_with == code
    await wire.lose(1005)
