"""When to publish what: the same for every server with an event loop."""

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

import msgspec

from loadtest.bench import wire


class Run(msgspec.Struct, forbid_unknown_fields=True):
    """`count` publishes, `per_tick` in one turn of the loop, or `per_second` (0: without a pause)."""

    count: int
    per_tick: int
    per_second: float


async def numbers(run: Run) -> AsyncIterator[int]:
    """The numbers of the events to publish, each when it is due."""
    started = perf_counter()
    for position in range(run.count):
        if run.per_second:
            await asyncio.sleep(max(0.0, started + position / run.per_second - perf_counter()))
        elif position and position % run.per_tick == 0:
            await asyncio.sleep(0)
        yield wire.FIRST_NUMBER + position
