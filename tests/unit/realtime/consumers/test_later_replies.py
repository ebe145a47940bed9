"""Replies that come when a future is done, and what follows a reply."""

import asyncio

import pytest

from app.realtime import close_codes
from tests.unit.realtime.consumers.clients import Connect
from tests.unit.realtime.consumers.wires import settle, until


@pytest.mark.parametrize("name", ["store", "store_later"])
async def test_a_reply_may_come_when_a_future_is_done_and_later_commands_wait_for_it(
    connect: Connect, name: str
) -> None:
    client = await connect()
    first, second = client.send(name, "one"), client.send("echo", "two")
    await settle()
    assert client.answers == []
    client.consumer.stored.set_result("three")
    assert (await client.answer(second))["reply"] == {"text": "two"}
    assert client.answers == [first, second]
    assert client.wire.frames[1]["reply"] == {"text": "three"}
    assert client.consumer.done == ["one", "two"]


async def test_a_future_that_fails_is_answered_like_a_handler_that_fails(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect()
    codes = []
    for outcome in ("refused", RuntimeError("a bug"), asyncio.CancelledError()):
        sent = client.send("store", "one")
        await until(lambda: hasattr(client.consumer, "stored") and not client.consumer.stored.done())
        if isinstance(outcome, str):
            client.consumer.stored.set_result(outcome)
        elif isinstance(outcome, RuntimeError):
            client.consumer.stored.set_exception(outcome)
        else:
            client.consumer.stored.cancel()
        codes.append((await client.answer(sent))["error"]["code"])
    assert codes == ["not_allowed", "internal_error", "internal_error"]
    assert "a bug" in caplog.text
    assert (await client.command("echo", "still here"))["reply"] == {"text": "still here"}


@pytest.mark.parametrize("failing", [False, True])
async def test_a_future_outlives_the_connection_that_waited_for_it(connect: Connect, failing: bool) -> None:
    client = await connect()
    client.send("store", "one")
    client.send("echo", "two")
    await settle()
    await client.wire.lose(1006)
    stored = client.consumer.stored
    assert not stored.cancelled()
    if failing:
        stored.set_exception(RuntimeError("nobody waits any more"))
    else:
        stored.set_result("three")
    await settle()
    assert client.consumer.done == []
    assert client.answers == []


@pytest.mark.parametrize("name", ["reply_and_tell", "store"])
async def test_what_follows_a_reply_comes_right_behind_it(connect: Connect, name: str) -> None:
    client = await connect()
    sent = client.send(name, "both")
    await settle()
    if name == "store":
        client.consumer.stored.set_result("three")
    await client.answer(sent)
    assert [frame.get("id", frame.get("event")) for frame in client.wire.frames[1:]] == [sent, "test.said"]


async def test_a_failure_behind_a_reply_ends_the_connection(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect()
    client.send("reply_and_tell", "fail")
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.CONSUMER_FAILED
    assert [frame.get("id") for frame in client.wire.frames[1:]] == [1]
    assert "failed behind its reply" in caplog.text
