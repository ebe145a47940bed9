import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import channel_layers
from pytest_django import Settings

from app.realtime.broker import BusUnavailable
from app.realtime.channel_layer import FanoutChannelLayer
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import current_node
from tests.channel_layer_contract import ChannelLayerContract, Elsewhere, drops, received, say


class TestOnTheMemoryBroker(ChannelLayerContract):
    async def subscriptions(self) -> int:
        broker = current_node().broker
        assert isinstance(broker, MemoryBroker)
        return len(broker._groups)

    async def test_a_node_goes_on_when_the_queue_to_the_bus_is_full(
        self, layer: FanoutChannelLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        monkeypatch.setattr(MemoryBroker, "publish", lambda *arguments: False)
        before = drops("bus_full")
        await layer.group_send("g", say(1))
        assert await received(layer, channel, 1) == [1]
        assert drops("bus_full") == before + 1

    async def test_what_another_release_says_to_a_node_is_skipped(
        self, layer: FanoutChannelLayer, elsewhere: Elsewhere
    ) -> None:
        channel = await layer.new_channel()
        before = drops("undecodable")
        inbox = f"stock.node.{current_node().incarnation.hex()}"

        async def speak() -> None:
            for payload in (b"", b"\xc1", msgspec.msgpack.encode(["ring", channel])):
                current_node().publish_bytes(inbox, payload)
            await layer.send(channel, say(1))

        await elsewhere.run(speak())
        assert await received(layer, channel, 1) == [1]
        assert drops("undecodable") == before + 3


def test_whoever_is_not_a_node_is_told_when_the_queue_to_the_bus_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryBroker, "publish", lambda *arguments: False)
    with pytest.raises(BusUnavailable, match="full"):
        async_to_sync(FanoutChannelLayer().group_send)("g", say(1))


class TestNormalChannels:
    """Without Redis the task queue is this process' own."""

    @pytest.fixture
    async def layer(self, settings: Settings) -> AsyncIterator[FanoutChannelLayer]:
        settings.CHANNEL_LAYERS = {
            "default": {"BACKEND": "app.realtime.channel_layer.FanoutChannelLayer"},
            "tasks": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 3}},
        }
        layer = channel_layers["default"]
        yield layer
        await layer.flush()

    async def test_tasks_go_through_the_task_queue(self, layer: FanoutChannelLayer) -> None:
        for n in range(3):
            await layer.send("thumbnails", say(n))
        with pytest.raises(ChannelFull):
            await layer.send("thumbnails", say(3))
        assert await received(layer, "thumbnails", 3) == [0, 1, 2]

    async def test_flush_forgets_tasks(self, layer: FanoutChannelLayer) -> None:
        await layer.send("thumbnails", say(1))
        await layer.flush()
        await layer.send("thumbnails", say(2))
        assert await received(layer, "thumbnails", 1) == [2]


def test_a_loop_that_ends_takes_its_node_along() -> None:
    layer = FanoutChannelLayer()

    async def script() -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.group_send("g", say(1))
        assert await received(layer, channel, 1) == [1]

    for _ in range(3):
        asyncio.run(script())
    assert MemoryBroker._brokers == []
