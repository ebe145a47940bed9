"""A bus that repeats, drops and reorders: it does not even keep what a bus promises, at most once."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from app.realtime.redis_broker import RedisBroker

DROPPED: Final = 0.15
REPEATED: Final = 0.15
LATE: Final = 0.15
"""Shares of all messages."""
LATE_SECONDS: Final = 0.3

Messages = list[tuple[str, bytes]]


class BadBus(RedisBroker):
    """Redis, and something in between."""

    def start(self, deliver: Callable[[Messages], None], state_changed: Callable[[bool], None]) -> None:
        loop = asyncio.get_running_loop()

        def deliver_badly(messages: Messages) -> None:
            good: Messages = []
            for message in messages:
                chance = random.random()
                if chance < DROPPED:
                    continue
                if chance < DROPPED + LATE:
                    loop.call_later(random.uniform(0, LATE_SECONDS), deliver, [message])
                    continue
                good.append(message)
                if chance < DROPPED + LATE + REPEATED:
                    loop.call_later(random.uniform(0, LATE_SECONDS), deliver, [message])
            if random.random() < 0.5:
                good.reverse()
            deliver(good)

        super().start(deliver_badly, state_changed)
