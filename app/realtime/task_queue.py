"""Normal channels, many writers and workers each: channels-redis' core layer, made to last.

A worker's `receive` outlives every failure of Redis; nothing here is delivered twice or kept for later.
"""

import asyncio
import logging
import random
import time
from typing import Any, Final

from channels.exceptions import MessageTooLarge
from channels_redis.core import RedisChannelLayer
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.observability import metrics
from app.realtime.broker import BusUnavailable

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = (0.1, 2.0)
"""Between attempts to receive, the first and the longest: a promotion is noticed within two seconds."""


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary of the moment. One too many waits for its turn instead of failing."""

    async def aclose(self) -> None:
        """Close the connections to Sentinel too, which redis-py leaves to the garbage collector."""
        await super().aclose()
        await self.sentinel_manager.aclose()


class TaskQueue(RedisChannelLayer):  # type: ignore[misc]
    """The layer for normal channels only; process-specific channels and groups are the fan-out layer's."""

    def __init__(self, *, message_limit_bytes: int = 2 * 2**20, **config: Any) -> None:
        super().__init__(**config)
        self.message_limit_bytes = message_limit_bytes

    def create_pool(self, index: int) -> ConnectionPool:
        """Connections for one event loop."""
        host = dict(self.hosts[index])
        if "master_name" not in host:
            return BlockingConnectionPool.from_url(host.pop("address"), **host)
        # Its clients would ask a dead Sentinel ten times before they go on to the next.
        once = {"retry": Retry(NoBackoff(), 0)}
        sentinel = Sentinel(host.pop("sentinels"), sentinel_kwargs=host.pop("sentinel_kwargs") | once)  # type: ignore[no-untyped-call]
        return _SentinelPool(host.pop("master_name"), sentinel, **host)  # type: ignore[no-untyped-call]

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Hand `message` to one of the channel's workers. Raises `ChannelFull`, `BusUnavailable`.

        Never tried again by itself: when the answer is lost nobody knows whether a worker has it already.
        """
        try:
            await super().send(channel, message)
        except (RedisError, OSError) as error:
            raise BusUnavailable(f"the task queue cannot be reached: {error}") from error

    async def claim(self, name: str, seconds: float) -> bool:
        """Whether nobody else has claimed `name` within `seconds`. Raises `BusUnavailable`.

        A failover may forget a claim: what is claimed must bear being done twice.
        """
        try:
            claimed = await self.connection(0).set(
                f"{self.prefix}claim:{name}", b"", nx=True, px=round(seconds * 1000)
            )
        except (RedisError, OSError) as error:
            raise BusUnavailable(f"the task queue cannot be reached: {error}") from error
        return bool(claimed)

    async def receive(self, channel: str) -> dict[str, Any]:
        """The channel's next message; waits for it, through whatever happens to Redis.

        Taken in one step: upstream's backup of messages in flight gives them to two workers now and then.
        """
        self.require_valid_channel_name(channel)
        while True:
            data, sent_at = await self._take(channel)
            if time.time() - sent_at > self.expiry:
                metrics.channel_drops.labels("expired").inc()
                continue
            try:
                message: dict[str, Any] = self.deserialize(data)
            except Exception:  # each serializer fails in its own way; it must not end the worker
                metrics.channel_drops.labels("undecodable").inc()
                continue
            return message

    def serialize(self, message: dict[str, Any]) -> bytes:
        """Raises `MessageTooLarge`, as the fan-out layer does."""
        data: bytes = super().serialize(message)
        if len(data) > self.message_limit_bytes:
            raise MessageTooLarge(
                f"the message has {len(data)} bytes encoded, expected {self.message_limit_bytes} or fewer"
            )
        return data

    async def _take(self, channel: str) -> tuple[bytes, float]:
        """The oldest message and when it was sent, in seconds of Unix time."""
        failures = 0
        while True:
            try:
                taken = await self.connection(0).bzpopmin(self.prefix + channel, timeout=self.brpop_timeout)
            except (RedisError, OSError) as error:
                if not failures:
                    logger.warning("the task queue is away, %r waits for it: %s", channel, error)
                failures += 1
                await asyncio.sleep(_pause(failures))
                continue
            if failures:
                logger.info("the task queue is back, %r goes on", channel)
                failures = 0
            if taken is not None:
                return taken[1], taken[2]


def _pause(failures: int) -> float:
    first, longest = RETRY_SECONDS
    return random.uniform(0.5, 1) * min(longest, first * 2.0 ** min(failures, 10))  # noqa: S311
