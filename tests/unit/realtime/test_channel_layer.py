from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import current_node
from tests.channel_layer_contract import ChannelLayerContract


class TestOnTheMemoryBroker(ChannelLayerContract):
    async def subscriptions(self) -> int:
        broker = current_node().broker
        assert isinstance(broker, MemoryBroker)
        return len(broker._groups)
