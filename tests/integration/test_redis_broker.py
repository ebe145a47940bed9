"""The broker over a real Redis with real Sentinels keeps the contract of all brokers and its own promises."""

from collections.abc import Callable

import pytest
from pytest_django import Settings

from app.realtime.broker import Broker
from app.realtime.redis_broker import RedisBroker
from deploy.local.redis_servers import RedisServers
from tests.broker_contract import BrokerContract


class TestRedisBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, redis_servers: RedisServers, settings: Settings) -> Callable[[], Broker]:
        settings.REDIS_SENTINELS = redis_servers.sentinel_addresses
        return RedisBroker
