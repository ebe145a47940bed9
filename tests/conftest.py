"""How tests are shared out when several processes run them (`make test`), and what holds for all of them."""

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# No test asserts a time: not how long one example takes, either.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


class ByServers(LoadScopeScheduling):  # type: ignore[misc]
    """Integration tests of one file share its servers: one process plays all of it."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith("tests/unit/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)
