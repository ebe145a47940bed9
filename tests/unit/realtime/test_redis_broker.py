"""What the Redis broker does with a tick, with a queue that fills and with a primary that misbehaves."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from pytest_django import Settings

from app.observability import metrics
from app.realtime import redis_broker
from app.realtime.broker import BusUnavailable
from app.realtime.redis_broker import RedisBroker
from tests.broker_contract import PATIENCE, Ear, eventually, listening
from tests.unit.realtime.fake_redis import HELLO, FakeRedis, behave, push

SOON = 0.1


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[FakeRedis]:
    """The only Redis there is, at an address without Sentinels."""
    async with FakeRedis.serving() as server:
        settings.REDIS_ADDRESS = f"127.0.0.1:{server.address[1]}"
        settings.REDIS_CONNECT_SECONDS = 1.0
        yield server


@pytest.fixture
async def ear(redis: FakeRedis) -> AsyncIterator[Ear]:
    async with listening(RedisBroker()) as ear:
        await eventually(lambda: ear.broker.connected, "the broker is connected")
        yield ear


@asynccontextmanager
async def counting(outcome: str) -> AsyncIterator[Callable[[], float]]:
    value = metrics.bus_published.labels(outcome)._value
    before = value.get()
    yield lambda: value.get() - before


# One tick.


async def test_what_one_tick_asks_for_goes_out_in_one_read_of_the_server(redis: FakeRedis, ear: Ear) -> None:
    before = redis.reads
    for n in range(200):
        ear.broker.publish("g", b"%d" % n)
    await ear.broker.flush(PATIENCE)
    assert redis.names().count(b"PUBLISH") == 200
    assert redis.reads == before + 1


async def test_thousands_of_joins_and_leaves_of_one_tick_are_a_handful_of_commands(
    redis: FakeRedis, ear: Ear
) -> None:
    groups = [f"g{n}" for n in range(3_000)]
    await ear.join(*groups)
    assert redis.names().count(b"SUBSCRIBE") == 6
    for group in groups:
        ear.broker.unsubscribe(group)
    ear.broker.publish("end", b"")
    await ear.broker.flush(PATIENCE)
    assert redis.names().count(b"UNSUBSCRIBE") == 6
    left = [channel for command in redis.commands if command[0] == b"UNSUBSCRIBE" for channel in command[1:]]
    assert left == [f"carillon:{group}".encode() for group in groups]


async def test_a_join_is_done_when_redis_has_confirmed_it_and_not_before(redis: FakeRedis, ear: Ear) -> None:
    redis.answer = lambda command: b"" if command[0] == b"SUBSCRIBE" else behave(command)
    joined = ear.broker.subscribe("g")
    await eventually(lambda: b"SUBSCRIBE" in redis.names(), "Redis was asked")
    assert not joined.done()
    redis.say(push(b"subscribe", b"carillon:g", b"1"))
    await asyncio.wait_for(joined, PATIENCE)


async def test_joining_and_leaving_in_one_tick_asks_redis_for_nothing(redis: FakeRedis, ear: Ear) -> None:
    await ear.join("g", "g", "g")
    ear.broker.unsubscribe("g")
    ear.broker.subscribe("g")
    ear.broker.publish("end", b"")
    await ear.broker.flush(PATIENCE)
    assert redis.names().count(b"SUBSCRIBE") == 1 and b"UNSUBSCRIBE" not in redis.names()


async def test_a_fault_in_who_takes_the_messages_does_not_cost_the_connection(
    redis: FakeRedis, caplog: pytest.LogCaptureFixture
) -> None:
    def deliver(messages: list[tuple[str, bytes]]) -> None:
        raise ValueError("a bug above")

    broker = RedisBroker()
    broker.start(deliver, lambda _: None)
    await broker.subscribe("g")
    await eventually(lambda: broker.connected, "the broker is connected")
    redis.say(push(b"message", b"carillon:g", b"x"))
    await eventually(lambda: "a bug above" in caplog.text, "the fault is logged")
    assert broker.connected
    await broker.stop()


# The queue.


async def test_a_full_queue_refuses_and_counts_what_it_refuses(redis: FakeRedis, settings: Settings) -> None:
    settings.PUBLISH_QUEUE_BYTES = 1_000
    async with counting("dropped_full") as dropped, listening(RedisBroker()) as ear:
        assert ear.broker.publish("g", b"x" * 900)
        assert not ear.broker.publish("g", b"y" * 900)
        assert dropped() == ear.broker.failures == 1
        await ear.broker.flush(PATIENCE)
        assert ear.broker.publish("g", b"z" * 900)


async def test_bytes_that_redis_does_not_read_fill_the_queue_too(
    redis: FakeRedis, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_broker, "UNANSWERED_SECONDS", 1_000.0)
    for client in redis.clients:
        client.pause_reading()
    sent = 0
    while ear.broker.publish("g", b"x" * 2**20):
        sent += 1
        assert sent < 100, "the queue takes more than its limit"
        await asyncio.sleep(0)


async def test_what_waits_too_long_for_redis_is_dropped_and_counted(settings: Settings) -> None:
    settings.REDIS_ADDRESS, settings.PUBLISH_QUEUE_SECONDS = "127.0.0.1:1", SOON
    async with counting("dropped_expired") as dropped, listening(RedisBroker()) as ear:
        assert ear.broker.publish("g", b"old")
        with pytest.raises(BusUnavailable):
            await ear.broker.flush(PATIENCE)
        assert dropped() == ear.broker.failures == 1


async def test_flush_gives_up_when_redis_does_not_answer_in_time(redis: FakeRedis, ear: Ear) -> None:
    redis.answer = lambda command: b"" if command[0] == b"PUBLISH" else behave(command)
    ear.broker.publish("g", b"x")
    with pytest.raises(BusUnavailable, match=r"within 0.1 s"):
        await ear.broker.flush(SOON)


async def test_what_redis_refuses_is_counted_as_failed_and_said_once(
    redis: FakeRedis, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    redis.answer = lambda c: b"-NOPERM no channel for you\r\n" if c[0] == b"PUBLISH" else behave(c)
    async with counting("failed") as failed:
        for _ in range(3):
            ear.broker.publish("g", b"x")
            with pytest.raises(BusUnavailable):
                await ear.broker.flush(PATIENCE)
        assert failed() == ear.broker.failures == 3
    assert caplog.text.count("NOPERM") == 1


async def test_what_was_written_is_never_written_again(redis: FakeRedis, ear: Ear) -> None:
    redis.answer = lambda command: b"" if command[0] == b"PUBLISH" else behave(command)
    async with counting("failed") as failed, counting("written") as written:
        ear.broker.publish("g", b"lost")
        await eventually(lambda: b"PUBLISH" in redis.names(), "it was written")
        redis.answer = behave
        redis.clients[-1].abort()
        await eventually(lambda: ear.states == [True, False, True], "the broker is back")
        ear.broker.publish("g", b"next")
        await ear.broker.flush(PATIENCE)
        assert [command[2] for command in redis.commands if command[0] == b"PUBLISH"] == [b"lost", b"next"]
        assert (failed(), written()) == (1, 1)


async def test_a_primary_that_owes_an_answer_gets_nothing_more_and_the_next_gets_it_all(
    redis: FakeRedis, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_broker, "UNANSWERED_SECONDS", 0.0)
    redis.answer = lambda command: b"" if command[0] == b"PUBLISH" else behave(command)
    ear.broker.publish("g", b"first")
    await eventually(lambda: b"PUBLISH" in redis.names(), "the first was written")
    for data in (b"second", b"third"):
        assert ear.broker.publish("g", data)
        await asyncio.sleep(0.01)
    assert redis.names().count(b"PUBLISH") == 1
    redis.answer = behave
    redis.say(b":1\r\n")
    await ear.broker.flush(PATIENCE)
    said = [command[2] for command in redis.commands if command[0] == b"PUBLISH"]
    assert said == [b"first", b"second", b"third"]


async def test_what_waited_through_an_outage_is_published_only_when_others_may_be_back(
    redis: FakeRedis, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_broker, "SETTLE_SECONDS", 1_000.0)
    redis.clients[-1].abort()
    await eventually(lambda: ear.states == [True, False, True], "the broker is back")
    ear.broker.publish("g", b"x")
    joined = ear.broker.subscribe("g")
    await joined
    assert b"PUBLISH" not in redis.names()
    monkeypatch.setattr(redis_broker, "STOP_SECONDS", 0.0)


# Primaries that are none.


async def test_joins_wait_for_the_first_answer_and_not_longer_than_for_the_first_failure(
    redis: FakeRedis,
) -> None:
    redis.answer = lambda command: b"" if command[0] == b"ROLE" else behave(command)
    async with listening(RedisBroker()) as ear:
        joined = ear.broker.subscribe("g")
        await eventually(lambda: b"ROLE" in redis.names(), "the broker asks for the role")
        assert not joined.done()
        redis.clients[-1].abort()
        await asyncio.wait_for(joined, PATIENCE)
        await asyncio.wait_for(ear.broker.subscribe("h"), PATIENCE)
        assert not ear.broker.connected


async def test_a_replica_is_not_used_and_said_once(
    redis: FakeRedis, caplog: pytest.LogCaptureFixture
) -> None:
    redis.answer = lambda command: b"*1\r\n+slave\r\n" if command[0] == b"ROLE" else behave(command)
    async with listening(RedisBroker()) as ear:
        await eventually(lambda: redis.names().count(b"ROLE") > 3, "it was tried again and again")
        assert ear.states == [] and caplog.text.count("is no primary") == 1
        redis.answer = behave
        await eventually(lambda: ear.broker.connected, "the promoted one is used")


async def test_a_primary_that_becomes_a_replica_is_left(redis: FakeRedis, settings: Settings) -> None:
    settings.REDIS_PING_SECONDS = SOON
    demoted = metrics.bus_reconnects.labels("demoted")._value
    before = demoted.get()
    async with listening(RedisBroker()) as ear:
        await eventually(lambda: ear.broker.connected, "the broker is connected")
        redis.answer = lambda command: b"*1\r\n+slave\r\n" if command[0] == b"ROLE" else behave(command)
        await eventually(lambda: ear.states == [True, False], "the replica is left")
        assert demoted.get() == before + 1


async def test_a_group_that_redis_refuses_is_said_and_nobody_waits_for_it(
    redis: FakeRedis, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    redis.answer = lambda c: b"-NOPERM not this channel\r\n" if c[0] == b"SUBSCRIBE" else behave(c)
    await asyncio.wait_for(ear.broker.subscribe("g"), PATIENCE)
    await eventually(lambda: ear.states == [True, False], "the bus is known not to carry the group")
    assert "refused SUBSCRIBE: NOPERM not this channel" in caplog.text


async def test_a_redis_that_throws_us_out_at_once_is_not_stormed(redis: FakeRedis) -> None:
    def throw_out(command: list[bytes]) -> bytes:
        if command[0] == b"ROLE":
            asyncio.get_running_loop().call_soon(redis.clients[-1].close)
        return behave(command)

    redis.answer = throw_out
    async with listening(RedisBroker()):
        await eventually(lambda: len(redis.clients) >= 3, "it was tried three times")
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(redis.clients) < 10


async def test_a_wrong_password_is_one_line_without_the_password_until_it_is_right(
    redis: FakeRedis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings.REDIS_PASSWORD = "hunter2"
    redis.answer = lambda _: b"-WRONGPASS invalid username-password pair\r\n"
    async with listening(RedisBroker()) as ear:
        await eventually(lambda: len(redis.commands) > 3, "it was tried again and again")
        assert caplog.text.count("WRONGPASS") == 1 and "hunter2" not in caplog.text
        redis.answer = behave
        await eventually(lambda: ear.broker.connected, "the right password is taken")


async def test_stopping_while_redis_hangs_does_not_wait_for_it(redis: FakeRedis) -> None:
    redis.answer = lambda command: HELLO if command[0] == b"HELLO" else b""
    before = asyncio.all_tasks()
    async with listening(RedisBroker()) as ear:
        ear.broker.publish("g", b"x")
        await eventually(lambda: b"ROLE" in redis.names(), "the broker waits for an answer")
    assert asyncio.all_tasks() == before
