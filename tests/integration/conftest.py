"""Real servers for the tests of this folder."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from deploy.local.redis_servers import RedisServers


@pytest.fixture(scope="session")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    """One set for the whole run, for tests that leave it as it is: kill, pause and fail over nothing here."""
    with RedisServers(tmp_path_factory.mktemp("redis")) as servers:
        yield servers


@pytest.fixture
def disturbable_redis(tmp_path: Path) -> Iterator[RedisServers]:
    """A set of this test's own, to kill, pause and fail over."""
    with RedisServers(tmp_path / "redis") as servers:
        yield servers


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """What opens connections of its own is tried on the loop of nodes and on that of commands and shells."""
    python = {"asyncio": asyncio.new_event_loop}
    both = item.path.name in {"test_redis_broker.py", "test_postgres.py"}
    return python | {"uvloop": uvloop.new_event_loop} if both else python
