"""The broker over Redis: one connection to the primary carries publishes and subscriptions, so both always
move together. It heals by itself, for ever, and never makes its caller wait.

Nothing is kept here that a failover could lose: what was written is never written again.
"""

import asyncio
import logging
import random
import ssl
from asyncio import Event, Future, Task
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from django.conf import settings

from app.observability import metrics
from app.realtime.broker import Broker, BusUnavailable, Deliver, StateChanged
from app.realtime.publish_queue import PublishQueue
from app.realtime.redis_connection import (
    Address,
    Credentials,
    ErrorAnswer,
    RedisConnection,
    RedisError,
    RedisLost,
    open_connection,
    pack,
)
from app.realtime.sentinel import FixedPrimary, PrimaryFinder, Sentinels
from app.realtime.subscriptions import Subscriptions, confirm

logger = logging.getLogger(__name__)

CHANNELS_PER_COMMAND: Final = 512
"""A SUBSCRIBE of this size holds up Redis for well under a millisecond."""
BACKOFF_SECONDS: Final = (0.05, 1.0)
"""First and longest pause between attempts; each is drawn between nothing and that (full jitter)."""
SETTLE_SECONDS: Final = 0.2
"""After an outage, what waited is published only this much later: other nodes are coming back in the same
moment, and Redis keeps nothing for those that are late."""
UNANSWERED_SECONDS: Final = 0.2
"""A primary that owes an answer for so long gets nothing more: what is written to one that hangs is lost,
what is held back goes to the next."""
STOP_SECONDS: Final = 1.0

_written: Final = metrics.bus_published.labels("written")
_dropped_full: Final = metrics.bus_published.labels("dropped_full")
_dropped_expired: Final = metrics.bus_published.labels("dropped_expired")
_failed: Final = metrics.bus_published.labels("failed")


class RedisBroker(Broker):
    """Redis as the settings describe it."""

    def __init__(self) -> None:
        tls = _tls() if settings.REDIS_TLS else None
        name = f"carillon-{settings.NODE_NAME}"
        self._credentials = Credentials(name, settings.REDIS_USERNAME, settings.REDIS_PASSWORD, tls)
        self._finder = _finder(name, tls)
        self._subscriptions = Subscriptions(settings.REDIS_PREFIX)
        self._queue = PublishQueue(settings.PUBLISH_QUEUE_BYTES, settings.PUBLISH_QUEUE_SECONDS)
        self._connection: RedisConnection | None = None
        self._connected = False
        self._publishing = False
        self._scheduled = False
        self._heading_for: Address | None = None
        self._attempt: asyncio.Timeout | None = None
        self._troubles: set[str] = set()
        self._unanswered: deque[float] = deque()
        self._accepted = self._settled = self._losses = 0
        self._flushes: deque[tuple[int, Future[None]]] = deque()

    def start(self, deliver: Deliver, state_changed: StateChanged) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._state_changed = state_changed
        self._woken = Event()
        self._finder.start(self._moved)
        self._task: Task[None] = self._loop.create_task(self._stay_connected())

    async def stop(self) -> None:
        if self._connected:
            try:
                await self.flush(STOP_SECONDS)
            except BusUnavailable as error:
                logger.warning("bus: stopped with messages unsent: %s", error)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._finder.stop()
        connection, self._connection, self._connected = self._connection, None, False
        if connection is not None:
            connection.lost = None
            connection.abort("stopped")
            await connection.closed
        self._subscriptions.lost()
        self._settle(_failed, self._queue.take()[1])

    @property
    def connected(self) -> bool:
        return self._connected

    def publish(self, group: str, data: bytes) -> bool:
        command = pack("PUBLISH", self._subscriptions.channel(group), data)
        unsent = 0 if self._connection is None else self._connection.unsent()
        if not self._queue.add(command, self._loop.time(), unsent):
            self._expire()
            if not self._queue.add(command, self._loop.time(), unsent):
                _dropped_full.inc()
                self.failures += 1
                return False
        self._accepted += 1
        self._schedule()
        return True

    def subscribe(self, group: str) -> "Future[None]":
        self._schedule()
        return self._subscriptions.add(group)

    def reconnect(self) -> None:
        if self._connected and self._connection is not None:
            self._connection.abort("deaf")

    def unsubscribe(self, group: str) -> None:
        self._schedule()
        self._subscriptions.discard(group)

    async def flush(self, timeout: float) -> None:
        if self._settled == self._accepted:
            return
        losses = self._losses
        settled: Future[None] = self._loop.create_future()
        self._flushes.append((self._accepted, settled))
        try:
            async with asyncio.timeout(timeout):
                await settled
        except TimeoutError:
            raise BusUnavailable(f"Redis did not take everything within {timeout:g} s") from None
        if self._losses > losses:
            raise BusUnavailable("Redis was lost or refused before it took everything")

    # What one tick asks for leaves at its end, in one write.

    def _schedule(self) -> None:
        if not self._scheduled and self._connection is not None:
            self._scheduled = True
            self._loop.call_soon(self._end_tick)

    def _end_tick(self) -> None:
        self._scheduled = False
        connection = self._connection
        if connection is None:
            return
        self._send_subscriptions(connection)
        if self._publishing and len(self._queue) and not self._held_back():
            commands, count = self._queue.take()
            self._unanswered.append(self._loop.time())
            connection.send(commands, count).add_done_callback(partial(self._answered, count))

    def _held_back(self) -> bool:
        """Until the next answer comes, or the connection is given up."""
        return bool(self._unanswered) and self._unanswered[0] < self._loop.time() - UNANSWERED_SECONDS

    def _send_subscriptions(self, connection: RedisConnection) -> "list[Future[list[Any]]]":
        joins, leaves = self._subscriptions.changes()
        sent = []
        for groups in _chunks(joins):
            answered = connection.send(self._pack("SUBSCRIBE", groups), len(groups), by_push=True)
            waiting = self._subscriptions.waiting(groups)
            answered.add_done_callback(partial(self._subscribed, connection, waiting))
            sent.append(answered)
        for groups in _chunks(leaves):
            connection.send(self._pack("UNSUBSCRIBE", groups), len(groups), by_push=True)
        return sent

    def _pack(self, command: str, groups: list[str]) -> bytes:
        return pack(command, *[self._subscriptions.channel(group) for group in groups])

    def _subscribed(
        self, connection: RedisConnection, waiting: "list[Future[None]]", answered: "Future[list[Any]]"
    ) -> None:
        answers = answered.result()
        if answers and isinstance(answers[-1], ErrorAnswer):
            self._note(f"{connection} refused SUBSCRIBE: {answers[-1]}")
            connection.abort("refused")
        confirm(waiting)

    def _answered(self, count: int, answered: "Future[list[Any]]") -> None:
        self._unanswered.popleft()
        self._schedule()
        errors = [answer for answer in answered.result() if type(answer) is not int]
        if errors:
            self._note(f"Redis refused PUBLISH: {errors[0]}")
        taken = len(answered.result()) - len(errors)
        self._settle(_written, taken)
        self._settle(_failed, count - taken)

    def _expire(self) -> None:
        self._settle(_dropped_expired, self._queue.expire(self._loop.time()))

    def _settle(self, outcome: Any, count: int) -> None:
        """`count` messages, the oldest that were open, came to `outcome`."""
        if not count:
            return
        outcome.inc(count)
        self._settled += count
        if outcome is not _written:
            self._losses += count
            self.failures += count
        while self._flushes and self._flushes[0][0] <= self._settled:
            _, settled = self._flushes.popleft()
            confirm([settled])

    def _received(self, pushed: list[Sequence[bytes]]) -> None:
        group_of = self._subscriptions.group
        messages = [(group, data) for _, channel, data in pushed if (group := group_of(channel)) is not None]
        try:
            self._deliver(messages)
        except Exception:
            # A fault above must not cost this node its connection to all others.
            logger.exception("bus: %d messages could not be delivered", len(messages))

    # Finding the primary, joining it, and doing so again.

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            self._woken.clear()
            if failures:
                await self._pause(failures)
            try:
                await self._attempt_to_join()
            except TimeoutError:
                failures = 0  # cut short by `_moved`: there is a new primary to go to
                self._give_up()
            except RedisError as error:
                failures += 1
                self._note(f"{error}; trying again until it is there")
                self._give_up()
            except Exception:
                failures += 1  # a fault of ours, but no reason to stay deaf for ever
                logger.exception("bus: could not join")
                self._give_up()
            else:
                failures = 0 if await self._lasted() else failures + 1

    async def _attempt_to_join(self) -> None:
        """`_join`, for `_moved` to cut short. Raises `RedisError`, `TimeoutError`."""
        try:
            async with asyncio.timeout(None) as self._attempt:
                await self._join()
        finally:
            self._attempt = None

    async def _join(self) -> None:
        """Find the primary, connect, make sure of its role, subscribe to everything. Raises `RedisError`."""
        self._heading_for = None
        self._heading_for = await self._finder.find(settings.REDIS_CONNECT_SECONDS)
        connection = await open_connection(
            self._heading_for, self._credentials, settings.REDIS_CONNECT_SECONDS, self._received
        )
        self._connection = connection
        connection.lost = self._lost
        role = connection.execute("ROLE")
        connection.watch(settings.REDIS_PING_SECONDS, "ROLE", _judge_role)
        if _judge_role(await role):
            raise RedisError(f"{connection} is no primary but a replica")
        run_id = await _run_id(connection)
        if self.bus_id and run_id and run_id != self.bus_id:
            metrics.bus_failovers.inc()
        self.bus_id = run_id
        if sent := self._send_subscriptions(connection):
            await asyncio.wait(sent)
        if connection.lost_reason:
            raise RedisLost(f"{connection} was lost: {connection.lost_reason}")
        self._joined(connection)

    def _joined(self, connection: RedisConnection) -> None:
        logger.info("bus: joined %s with %d groups", connection, len(self._subscriptions))
        back = self._subscriptions.down
        self._subscriptions.down = False
        self._connected = True
        self._troubles.clear()
        self._loop.call_later(SETTLE_SECONDS if back else 0, self._publish_from_now, connection)
        self._state_changed(True)

    def _publish_from_now(self, connection: RedisConnection) -> None:
        if connection is self._connection:
            self._expire()
            self._publishing = True
            self._schedule()

    def _lost(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        self._publishing = False
        self._subscriptions.lost()
        self._woken.set()
        if self._connected:
            logger.warning("bus: lost %s (%s)", connection, reason)
            metrics.bus_reconnects.labels(reason).inc()
            self._connected = False
            self._state_changed(False)

    def _moved(self, primary: Address) -> None:
        """The finder knows another primary: be there at once, also if the old one still answers."""
        self._woken.set()
        if self._attempt is not None:
            if self._heading_for not in (None, primary) and not self._attempt.expired():
                self._attempt.reschedule(0)
        elif self._connection is not None and self._connection.address != primary:
            self._connection.abort("moved")

    async def _lasted(self) -> bool:
        """Wait until the connection is lost. False if that was soon: Redis may be throwing us out."""
        joined = self._loop.time()
        while self._connection is not None:
            self._woken.clear()
            await self._woken.wait()
        return self._loop.time() - joined > BACKOFF_SECONDS[1]

    async def _pause(self, failures: int) -> None:
        """A random pause, longer with each failure, cut short by news of the primary."""
        first, longest = BACKOFF_SECONDS
        try:
            async with asyncio.timeout(random.uniform(0, min(longest, first * 2**failures))):  # noqa: S311
                await self._woken.wait()
        except TimeoutError:
            pass

    def _give_up(self) -> None:
        if self._connection is not None:
            self._connection.abort("closed")
        self._subscriptions.lost()
        self._expire()

    def _note(self, trouble: str) -> None:
        """One line for each trouble, however often it is met until the bus is back."""
        if trouble not in self._troubles:
            self._troubles.add(trouble)
            logger.warning("bus: %s", trouble)


def _judge_role(role: Any) -> str:
    """The primary may be demoted while we are connected to it, and a replica takes PUBLISH without a word."""
    return "" if isinstance(role, list) and role[:1] == [b"master"] else "demoted"


async def _run_id(connection: RedisConnection) -> str:
    """Which life of which Redis, by its `INFO server`; empty if it does not say."""
    try:
        answer = await connection.execute("INFO", "server")
    except RedisLost:
        raise
    except RedisError:
        return ""  # this account may not ask
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
    return next((line[7:].strip() for line in text.splitlines() if line.startswith("run_id:")), "")


def _chunks(groups: list[str]) -> list[list[str]]:
    return [groups[i : i + CHANNELS_PER_COMMAND] for i in range(0, len(groups), CHANNELS_PER_COMMAND)]


def _finder(client_name: str, tls: ssl.SSLContext | None) -> PrimaryFinder:
    if not settings.REDIS_SENTINELS:
        host, _, port = settings.REDIS_ADDRESS.rpartition(":")
        return FixedPrimary((host, int(port)))
    return Sentinels(
        settings.REDIS_SENTINELS,
        settings.REDIS_PRIMARY_NAME,
        Credentials(client_name, settings.REDIS_SENTINEL_USERNAME, settings.REDIS_SENTINEL_PASSWORD, tls),
        settings.REDIS_CONNECT_SECONDS,
    )


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings.REDIS_TLS_CA_FILE or None)
