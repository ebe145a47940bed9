"""The fan-out layer over a real Redis with Sentinels, and with none at all."""

import asyncio
import gc
import itertools
import subprocess
import sys
from contextlib import closing, suppress

import pytest
from asgiref.sync import async_to_sync
from pytest_django import Settings

from app.realtime.broker import BusUnavailable
from app.realtime.channel_layer import FanoutChannelLayer
from app.realtime.node import current_node, stop_node
from deploy.local.redis_servers import RedisServers
from tests.channel_layer_contract import ChannelLayerContract, Elsewhere, say, until, within
from tests.channel_layer_settings import environment_for


@pytest.fixture
def on_redis(redis_servers: RedisServers, settings: Settings) -> RedisServers:
    settings.REDIS_SENTINELS = redis_servers.sentinel_addresses
    settings.REALTIME_BROKER = "app.realtime.redis_broker.RedisBroker"
    return redis_servers


@pytest.fixture
def without_redis(settings: Settings) -> None:
    settings.REDIS_SENTINELS = [("127.0.0.1", 1)]
    settings.REDIS_CONNECT_SECONDS = 0.2
    settings.REALTIME_BROKER = "app.realtime.redis_broker.RedisBroker"


def clients(servers: RedisServers) -> int:
    _, port = servers.primary_address()
    listed = str(servers.ask(port, "CLIENT", "LIST"))
    return listed.count("name=carillon-")


class TestOnRedis(ChannelLayerContract):
    @pytest.fixture(autouse=True)
    def _keep_servers(self, on_redis: RedisServers) -> None:
        self._servers = on_redis

    async def subscriptions(self) -> int:
        # Redis has answered a later command of the same connection: it has seen every UNSUBSCRIBE.
        node = current_node()
        node.publish_bytes("nobody", b"")
        await node.broker.flush(10)
        _, port = self._servers.primary_address()
        channels = self._servers.ask(port, "PUBSUB", "CHANNELS", "carillon:*")
        assert isinstance(channels, list)
        return len(channels)

    async def test_a_thousand_members_are_one_subscription(self, layer: FanoutChannelLayer) -> None:
        for _ in range(1_000):
            await layer.group_add("g", await layer.new_channel())
        _, port = self._servers.primary_address()
        assert await self.subscriptions() == 2, "the group and the node's inbox"
        numbers = self._servers.ask(port, "PUBSUB", "NUMSUB", "carillon:stock.group.g")
        assert numbers == ["carillon:stock.group.g", 1]

    async def test_publishing_from_outside_leaves_nothing_behind(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        before = clients(self._servers)

        def script() -> None:
            for n in range(5):
                async_to_sync(layer.group_send)("g", say(n))
            gc.collect()

        await asyncio.to_thread(script)
        assert [(await within(layer.receive(channel)))["n"] for _ in range(5)] == list(range(5))
        await within(until(lambda: clients(self._servers) == before))


async def test_without_redis_a_node_goes_on_alone(without_redis: None) -> None:
    layer = FanoutChannelLayer()
    async with asyncio.timeout(10):
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.group_send("g", say(1))
        assert await layer.receive(channel) == say(1)
    await stop_node()


@pytest.mark.usefixtures("without_redis")
def test_without_redis_whoever_is_not_a_node_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.realtime.channel_layer.PUBLISH_SECONDS", 0.5)
    layer = FanoutChannelLayer()
    with pytest.raises(BusUnavailable, match="Redis"):
        async_to_sync(layer.group_send)("g", say(1))
    with pytest.raises(BusUnavailable, match="Redis"):
        async_to_sync(layer.send)("specific.0011223344556677!8899", say(1))


async def test_members_hear_each_other_again_after_a_failover(
    disturbable_redis: RedisServers, settings: Settings
) -> None:
    servers = disturbable_redis
    settings.REDIS_SENTINELS = servers.sentinel_addresses
    settings.REALTIME_BROKER = "app.realtime.redis_broker.RedisBroker"
    layer = FanoutChannelLayer()
    here = await layer.new_channel()
    await layer.group_add("g", here)

    async def echo() -> None:
        there = await layer.new_channel()
        await layer.group_add("from-here", there)
        while True:
            await layer.group_send("g", await layer.receive(there))

    async def until_heard() -> None:
        for n in itertools.count():
            await layer.group_send("from-here", say(n))
            with suppress(TimeoutError):
                await asyncio.wait_for(layer.receive(here), 0.5)
                return

    with closing(Elsewhere()) as elsewhere:
        echoing = asyncio.create_task(elsewhere.run(echo()))
        await asyncio.wait_for(until_heard(), 30)
        previous = servers.primary_address()
        await asyncio.to_thread(servers.kill, "primary")
        # Nobody waits for a bus that is away, and nothing raises.
        await within(layer.group_send("from-here", say(-1)))
        await asyncio.to_thread(servers.wait_until_promoted, previous)
        await layer.flush()
        await layer.group_add("g", here)
        await asyncio.wait_for(until_heard(), 30)
    await asyncio.gather(echoing, return_exceptions=True)
    await stop_node()


SCRIPT = """
import asyncio, gc, warnings
import django
from asgiref.sync import async_to_sync

django.setup()

from channels.layers import get_channel_layer

async def main():
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.group_send("g", {"n": 1})
    assert await layer.receive(channel) == {"n": 1}

asyncio.run(main())
asyncio.run(main())
layer = get_channel_layer()
async_to_sync(layer.new_channel)()
async_to_sync(layer.group_send)("g", {"n": 2})
async_to_sync(layer.send)("thumbnails", {"n": 3})
assert async_to_sync(layer.receive)("thumbnails") == {"n": 3}
gc.collect()
"""


def test_a_script_leaves_nothing_open(redis_servers: RedisServers) -> None:
    environment = environment_for("fanout", redis_servers)
    environment["LOG_LEVEL"] = "WARNING"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, port = redis_servers.primary_address()
    assert clients(redis_servers) == 0, redis_servers.ask(port, "CLIENT", "LIST")
