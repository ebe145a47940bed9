"""Streams take their time from the loop alone, so here an hour takes no time."""

from asyncio import AbstractEventLoop
from collections.abc import Callable

from tests.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    return {"jumping": VirtualTimeLoop}
