"""The broker over a real Redis with real Sentinels keeps the contract of all brokers and its own promises."""

import asyncio
from collections.abc import Callable

import pytest
from pytest_django import Settings

from app.observability import metrics
from app.realtime.broker import Broker
from app.realtime.redis_broker import RedisBroker
from deploy.local.redis_servers import RedisServers
from tests.broker_contract import PATIENCE, BrokerContract, eventually, listening


class TestRedisBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, redis_servers: RedisServers, settings: Settings) -> Callable[[], Broker]:
        settings.REDIS_SENTINELS = redis_servers.sentinel_addresses
        return RedisBroker


@pytest.fixture
def alone(disturbable_redis: RedisServers, settings: Settings) -> RedisServers:
    """A Redis that is found by its address; no Sentinel interferes."""
    for sentinel in ("sentinel-1", "sentinel-2", "sentinel-3"):
        disturbable_redis.kill(sentinel)
    host, port = disturbable_redis.redis_addresses[0]
    settings.REDIS_SENTINELS, settings.REDIS_ADDRESS = [], f"{host}:{port}"
    return disturbable_redis


async def test_a_redis_that_restarts_empty_is_joined_again_with_all_groups(alone: RedisServers) -> None:
    async with listening(RedisBroker()) as ear:
        await ear.join(*[f"g{n}" for n in range(1_000)])
        await eventually(lambda: ear.broker.connected, "the broker is connected")
        before, failovers = ear.broker.bus_id, metrics.bus_failovers._value.get()
        await asyncio.to_thread(alone.kill, "redis-1")
        await eventually(lambda: ear.states == [True, False], "the loss is noticed")
        await asyncio.to_thread(alone.restart, "redis-1")
        await eventually(lambda: ear.broker.connected, "the broker is back")
        assert ear.broker.bus_id not in ("", before), "another life of Redis"
        assert metrics.bus_failovers._value.get() == failovers + 1
        for n in range(1_000):
            ear.broker.publish(f"g{n}", b"again")
        await eventually(lambda: len(ear.heard) == 1_000, "every group is heard again")


async def test_who_is_told_to_joins_the_same_bus_anew_with_all_groups(alone: RedisServers) -> None:
    async with listening(RedisBroker()) as ear, listening(RedisBroker()) as other:
        await ear.join(*[f"g{n}" for n in range(100)])
        await eventually(lambda: ear.broker.connected and other.broker.connected, "both are connected")
        assert ear.broker.bus_id == other.broker.bus_id != ""
        failovers = metrics.bus_failovers._value.get()
        ear.broker.reconnect()
        await eventually(lambda: ear.states == [True, False, True], "the broker is back")
        for n in range(100):
            other.broker.publish(f"g{n}", b"again")
        await eventually(lambda: len(ear.heard) == 100, "every group is heard again")
        assert ear.broker.bus_id == other.broker.bus_id
        assert other.states == [True]
        assert metrics.bus_failovers._value.get() == failovers, "it is the same bus"


async def test_a_user_needs_the_right_password_and_no_other_rights_than_documented(
    alone: RedisServers, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    port = alone.redis_addresses[0][1]
    commands = ("+hello", "+role", "+subscribe", "+unsubscribe", "+publish")
    channels = ("resetchannels", "&carillon:*")
    alone.ask(port, "ACL", "SETUSER", "node", "on", ">hunter2", "-@all", *commands, *channels)
    alone.ask(port, "ACL", "SETUSER", "default", "off")
    settings.REDIS_USERNAME, settings.REDIS_PASSWORD = "node", "hunter1"
    async with listening(RedisBroker()) as ear:
        await eventually(lambda: "WRONGPASS" in caplog.text, "the refusal is logged")
        assert "hunter1" not in caplog.text
    settings.REDIS_PASSWORD = "hunter2"
    async with listening(RedisBroker()) as ear:
        await ear.join("g")
        ear.broker.publish("g", b"let in")
        await ear.hears(b"let in")
        ear.broker.unsubscribe("g")
        await ear.broker.flush(PATIENCE)
        await eventually(lambda: ear.broker.connected, "the broker is connected")
        assert ear.broker.bus_id == "", "INFO is not among its rights, and not needed"
        assert "refused" not in caplog.text.partition("joined")[2]


async def test_a_channel_that_the_user_may_not_use_is_said(
    alone: RedisServers, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    rules = ("on", ">hunter2", "+@all", "resetchannels", "&carillon:mine:*")
    alone.ask(alone.redis_addresses[0][1], "ACL", "SETUSER", "node", *rules)
    settings.REDIS_USERNAME, settings.REDIS_PASSWORD = "node", "hunter2"
    async with listening(RedisBroker()) as ear:
        await ear.join("mine:g")
        ear.broker.publish("mine:g", b"heard")
        await ear.hears(b"heard", group="mine:g")
        await ear.join("theirs:g")
        await eventually(lambda: "refused SUBSCRIBE: NOPERM" in caplog.text, "the refusal is logged")


async def test_a_primary_that_is_made_a_replica_is_left_until_it_is_primary_again(
    alone: RedisServers, settings: Settings
) -> None:
    (_, primary), (_, other) = alone.redis_addresses
    settings.REDIS_PING_SECONDS = 0.1
    async with listening(RedisBroker()) as ear:
        await eventually(lambda: ear.broker.connected, "the broker is connected")
        alone.ask(primary, "REPLICAOF", "127.0.0.1", str(other))
        await eventually(lambda: ear.states == [True, False], "the replica is left")
        alone.ask(primary, "REPLICAOF", "NO", "ONE")
        await eventually(lambda: ear.broker.connected, "the primary is used again")
