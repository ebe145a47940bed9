"""Real servers for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
