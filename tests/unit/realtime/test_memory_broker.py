"""The broker inside one process keeps the contract of all brokers."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from app.realtime.broker import Broker
from app.realtime.memory_broker import MemoryBroker
from tests.broker_contract import BrokerContract, Ear, eventually, listening


class TestMemoryBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self) -> Callable[[], Broker]:
        return MemoryBroker

    async def test_a_broker_on_another_loop_of_the_process_is_heard(self, here: Ear) -> None:
        async def speak() -> None:
            async with listening(MemoryBroker()) as elsewhere:
                elsewhere.broker.publish("g", b"from another thread")

        await here.broker.subscribe("g")
        thread = threading.Thread(target=lambda: asyncio.run(speak()))
        thread.start()
        await eventually(lambda: not thread.is_alive(), "the other thread ends")
        await here.hears(b"from another thread")
