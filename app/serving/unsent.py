"""What was written to connections and the kernel has not taken yet: looked up when somebody asks for metrics.

Asked in another thread, summed up on the loop: nothing of the loop is touched from elsewhere, and nothing is
counted while bytes are written.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from math import nan
from typing import Final

from app.observability import metrics
from app.serving.direct_connection import DirectConnection

LOOK_SECONDS: Final = 0.5
"""A loop that takes longer has something worse to tell than this number."""


def watch_unsent(connections: Callable[[], Iterable[DirectConnection]]) -> None:
    """From now on tell it of `connections`, on the running loop."""
    loop = asyncio.get_running_loop()

    def total() -> int:
        return sum(connection.transport.get_write_buffer_size() for connection in connections())

    def ask() -> float:
        found: Future[int] = Future()
        try:
            loop.call_soon_threadsafe(lambda: found.set_result(total()))
            return found.result(LOOK_SECONDS)
        except (TimeoutError, RuntimeError):  # it stands still, or has ended
            return nan

    metrics.unsent_bytes.set_function(ask)
