"""What connections have not sent yet, asked from the thread that answers scrapers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from math import isnan
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.serving import unsent
from app.serving.unsent import watch_unsent


def connection(size: int) -> Any:
    return SimpleNamespace(transport=SimpleNamespace(get_write_buffer_size=lambda: size))


def asked() -> float:
    found = REGISTRY.get_sample_value("carillon_unsent_bytes")
    assert found is not None
    return found


async def test_it_is_summed_up_on_the_loop_when_it_is_asked_for() -> None:
    connections = [connection(1_000), connection(24)]
    watch_unsent(lambda: connections)
    assert await asyncio.to_thread(asked) == 1_024
    connections.clear()
    assert await asyncio.to_thread(asked) == 0


async def test_a_loop_that_stands_still_holds_no_scraper_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsent, "LOOK_SECONDS", 0.01)
    watch_unsent(lambda: [connection(1)])
    with ThreadPoolExecutor(1) as other:
        assert isnan(other.submit(asked).result(30)), "the loop stands still: we wait on it"
