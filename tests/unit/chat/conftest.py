"""A node of the test's own, with rooms in the run's database."""

from collections.abc import AsyncIterator

import pytest
from django.db import connections

from app.database.thread import in_database_thread
from app.realtime.node import stop_node


@pytest.fixture
def noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is gone is thought to come back for a moment only."""
    monkeypatch.setattr("app.presence.services.TICK_SECONDS", 0.02)
    monkeypatch.setattr("app.presence.tracker.GRACE_SECONDS", 0.1)


@pytest.fixture
async def node() -> AsyncIterator[None]:
    """Whatever node the test makes is stopped, and leaves no connection to the database."""
    yield
    await stop_node()
    await in_database_thread(connections.close_all)
