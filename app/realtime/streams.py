"""The streams that are active on this node: delivered in order and without holes, whatever the bus does.

The bus brings events quickly, the database knows them all: what the bus did not bring is read from there.
One task does that for all streams. An idle stream costs neither a task nor a timer.
"""

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from app.observability import event_ages, metrics
from app.realtime.connection import Subscriber
from app.realtime.delivery_account import DeliveryAccount
from app.realtime.hub import Hub
from app.realtime.stream import Position, ReadStreams, Reset, StreamEvent, StreamRead, Unreadable
from app.realtime.stream_audience import CATCH_UP_LIMIT, Ended, Following, StreamAudience
from app.realtime.stream_order import HeldBytes, StreamOrder
from app.realtime.stream_schedule import FILL_SECONDS, StreamSchedule

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""After a read that failed."""
READ_SECONDS: Final = 5.0
"""A database that does not answer for so long is as good as gone."""
READ_EVENTS: Final = 20_000
READ_BYTES: Final = 8 * 2**20
"""What one read may bring for all streams together; who is further behind gets it in several."""

_swept_nothing: Final = metrics.stream_sweeps.labels("nothing")
_swept_something: Final = metrics.stream_sweeps.labels("found")
_read: Final = metrics.stream_reads.labels("ok")
_read_failed: Final = metrics.stream_reads.labels("failed")


class NoStream(LookupError):
    """There is no stream of this name."""


class _Active:
    """One stream of this node."""

    __slots__ = ("audience", "confirmed", "name", "opened", "order", "pins")

    def __init__(self, name: str, order: StreamOrder, audience: StreamAudience) -> None:
        self.name = name
        self.order = order
        self.audience = audience
        self.pins = 0
        self.opened: Future[None] | None = None
        self.confirmed = False
        """The bus brings what is published from here on, or is known to be down."""

    def ask(self) -> int:
        return self.audience.ask(self.order.ask())

    def deliver(self, ready: list[StreamEvent]) -> None:
        self.audience.deliver(ready, joining=self.pins > len(self.audience))

    @property
    def incomplete(self) -> bool:
        """Whether something is missing that only the database is sure to have."""
        return self.order.behind or bool(self.audience.short)


class Streams:
    """The streams of one node. `keep` subscribes the node to a group on the bus and is done when that is
    confirmed or the bus is known down; `release` takes it back; `to_bus` publishes to the other nodes.
    Nobody is caught up with more than `catch_up_bytes`.
    """

    def __init__(
        self,
        hub: Hub,
        keep: Callable[[str], "Future[None]"],
        release: Callable[[str], None],
        to_bus: Callable[[str, StreamEvent], bool],
        healthy: Callable[[], bool],
        *,
        account: DeliveryAccount,
        catch_up_bytes: int,
    ) -> None:
        self.healthy = healthy
        """Whether the bus is thought to bring everything."""
        self.account = account
        self._hub = hub
        self._keep = keep
        self._release = release
        self._to_bus = to_bus
        self._catch_up_bytes = catch_up_bytes
        self._loop = asyncio.get_running_loop()
        self._held_bytes = HeldBytes()
        self._streams: dict[str, _Active] = {}
        self._schedule: StreamSchedule[_Active] = StreamSchedule()
        self._bus_was_away = False
        self._late: set[_Active] = set()
        """What the last sweep found, and the bus may be about to bring."""
        self._woken = asyncio.Event()
        self._sleeps_until = 0.0
        self._read: ReadStreams | None = None
        self._task: Task[None] | None = None
        self._failing = False

    def __contains__(self, stream: str) -> bool:
        return stream in self._streams

    def start(self, read: ReadStreams) -> None:
        """Begin: `read` asks the database."""
        if self._task is not None:
            raise RuntimeError("the node's streams were started already")
        self._read = read
        self._task = self._loop.create_task(self._work(), name="streams")

    async def stop(self) -> None:
        """Deliver nothing more from the database."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def enter(self, stream: str) -> None:
        """Make `stream` active on this node until as many `leave`. Whoever follows it does so in between.

        Done when other nodes' events arrive (or the bus is known down) and the stream's position was read
        after that: from here on nothing is missed. Many who come at once share one read.
        Raises `NoStream` and `Unreadable`; then there is nothing to leave.
        """
        if self._task is None:
            raise RuntimeError("the node's streams were not started")
        active = self._streams.get(stream)
        if active is None:
            order = StreamOrder(self._held_bytes)
            audience = StreamAudience(
                stream,
                order,
                self._hub,
                self.account,
                self._loop.call_soon,
                catch_up_bytes=self._catch_up_bytes,
            )
            active = self._streams[stream] = _Active(stream, order, audience)
            metrics.streams.inc()
        active.pins += 1
        if active.order.started:
            return
        try:
            if active.opened is None:
                self._open(active)
            assert active.opened is not None
            await asyncio.shield(active.opened)
        except BaseException:
            self.leave(stream)
            raise

    def leave(self, stream: str) -> None:
        """Take one `enter` back. After the last the node forgets where the stream is."""
        active = self._streams[stream]
        active.pins -= 1
        if active.pins:
            return
        del self._streams[stream]
        self._schedule.forget(active)
        active.audience.stop()
        active.order.end()
        metrics.streams.dec()
        self._release(stream)

    def follow(
        self,
        stream: str,
        subscriber: Subscriber,
        *,
        person: str,
        after: Position,
        ended: Callable[[Ended], None],
        events: Sequence[StreamEvent] = (),
    ) -> Following:
        """Send `subscriber` exactly what comes after `after`, in order: at once what is there already.

        `events` is what the caller read from the database: in order, without holes, from `after` or earlier.
        Read after `enter` they reach the stream's position, and all is sent when this returns; else what is
        missing is read first. `ended` is called at most once, never before this returns: after `stream.reset`
        was sent, or after an event that removes `person`. Nothing follows then. One at a time for a
        subscriber and stream.
        Raises `RuntimeError` if nobody entered the stream.
        """
        active = self._streams.get(stream)
        if active is None or active.opened is None:
            raise RuntimeError(f"enter {stream!r} before you follow it")
        following = active.audience.join(subscriber, person=person, after=after, told=ended, events=events)
        if active.audience.short:
            self._want(active, 0)
        elif active.order.behind:
            self._want(active, FILL_SECONDS)
        return following

    def committed(self, events: Iterable[tuple[str, StreamEvent]]) -> None:
        """This node stored `events`: deliver them here first, then to the other nodes."""
        for stream, event in events:
            event_ages.COMMIT.reached(event.at)
            self.arrived(stream, event)
            self._to_bus(stream, event)

    def arrived(self, stream: str, event: StreamEvent) -> None:
        """An event of `stream` is here: from the bus, or just stored."""
        active = self._streams.get(stream)
        if active is None:
            return
        order = active.order
        ready = order.take(event)
        if ready:
            active.deliver(ready)
        if order.behind:
            if active not in self._schedule and order.started:
                metrics.stream_holes.inc()
                self._want(active, FILL_SECONDS)
        elif not active.audience.short:
            self._schedule.forget(active)

    def bus_changed(self, connected: bool) -> None:
        """The bus is away, or was: whatever it lost is read from the database at once when it is back."""
        if connected:
            self._bus_was_away = True
            self._schedule.sweep_at_once()
        self._woken.set()

    # --- Reading -----------------------------------------------------------------------------------------

    def _open(self, active: _Active) -> None:
        active.opened = self._loop.create_future()
        active.opened.add_done_callback(lambda opened: opened.exception())  # who waited may be gone
        active.confirmed = False

        def confirmed(_: "Future[None]") -> None:
            if self._streams.get(active.name) is active:
                active.confirmed = True
                self._want(active, 0)

        self._keep(active.name).add_done_callback(confirmed)

    def _want(self, active: _Active, delay: float) -> None:
        """Read `active` from the database in so many seconds, or earlier if that was said before."""
        at = self._loop.time() + delay
        self._schedule.want(active, at)
        if at < self._sleeps_until:
            self._woken.set()

    async def _work(self) -> None:
        """The one task: one read at a time, for all streams that need it."""
        while True:
            self._woken.clear()
            now = self._loop.time()
            healthy = self.healthy()
            sweeping = self._schedule.sweep(now, healthy)
            if sweeping:
                wanted = [active for active in self._streams.values() if active.confirmed]
                patient = healthy and not self._bus_was_away
                self._bus_was_away = False
            else:
                wanted, patient = self._schedule.due(now), False
            if wanted:
                await self._read_all(wanted, sweeping, patient)
            else:
                await self._sleep(now)

    async def _sleep(self, now: float) -> None:
        """Until the next read is due, or may be."""
        until = self._schedule.next_look(now, active=bool(self._streams))
        self._sleeps_until = until if until is not None else now + 1e9
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._woken.wait()
        self._sleeps_until = 0.0

    async def _read_all(self, wanted: list[_Active], sweeping: bool, patient: bool) -> None:
        """`patient`: the bus is thought to bring everything, so what it has not brought yet is on its way."""
        if sweeping and self._late:
            self._late.clear()
            _swept_nothing.inc()  # by the sweep before: the bus did bring it
        asked = {}
        waits = {active for active in wanted if patient and not active.incomplete}
        for active in wanted:
            self._schedule.forget(active)
            asked[active.name] = active.ask()
        limit = max(1, min(CATCH_UP_LIMIT, READ_EVENTS // len(asked)))
        try:
            reads = await self._answer(asked, limit)
        except Exception as error:
            self._failed(wanted, error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        _read.inc()
        if self._failing:
            self._failing = False
            logger.info("streams: the database answers again")
        found: set[_Active] = set()
        for active in wanted:
            read = reads.get(active.name)
            if self._streams.get(active.name) is active:
                if read is not None and read.events:
                    # Last in the next sweep: what one stream missed keeps no other waiting.
                    self._streams[active.name] = self._streams.pop(active.name)
                if active in waits and read is not None and active.order.lags(read):
                    active.order.heard_of(read.last_sequence)
                    self._late.add(active)
                    self._want(active, FILL_SECONDS)
                    continue
                try:
                    if self._learn(active, read):
                        found.add(active)
                except Exception as error:  # a fault of ours in one stream stops no other
                    logger.exception("streams: could not go on with %s", active.name)
                    self._open_failed(active, error)
        if found and (sweeping or found & self._late):
            self._late.clear()
            _swept_something.inc()
        elif sweeping and not self._late:
            _swept_nothing.inc()

    async def _answer(self, asked: dict[str, int], limit: int) -> dict[str, StreamRead]:
        assert self._read is not None
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._read(asked, limit, READ_BYTES)
        except TimeoutError:
            raise Unreadable(f"no word for {READ_SECONDS:g} s") from None

    def _failed(self, wanted: list[_Active], error: Exception) -> None:
        """Ask again later. Who enters is told; who follows waits, and notices nothing else."""
        _read_failed.inc()
        if not self._failing:
            self._failing = True
            known = isinstance(error, Unreadable)
            logger.error(
                "streams: the database does not answer: %s", error, exc_info=None if known else error
            )
        for active in wanted:
            if self._streams.get(active.name) is not active:
                continue
            if active.order.started:
                self._want(active, 0)
            else:
                self._open_failed(active, error)

    def _open_failed(self, active: _Active, error: Exception) -> None:
        if active.opened is not None and not active.opened.done():
            active.opened.set_exception(error)
            active.opened, active.confirmed = None, False

    def _learn(self, active: _Active, read: StreamRead | None) -> bool:
        """Whether the database had something that the bus had not brought."""
        order, audience = active.order, active.audience
        if not order.started:
            if read is None:
                self._open_failed(active, NoStream(active.name))
            else:
                active.deliver(order.start(read))
                if active.opened is not None:
                    active.opened.set_result(None)
            return False
        if read is None:
            audience.close()
            order.end()
            active.opened, active.confirmed = None, False
            return True
        learnt = order.learn(read)
        if isinstance(learnt, Reset):
            audience.reset(learnt)
        elif learnt:
            active.deliver(learnt)
            metrics.stream_fills.inc(len(learnt))
        further = audience.learn(read)
        if active.incomplete:
            self._want(active, 0 if learnt or further else FILL_SECONDS)
        return bool(learnt)
