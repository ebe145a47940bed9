"""Who follows one stream on this node, and how somebody joins in the middle of it.

A connection gets exactly what lies between its position and the stream's, then what comes next; it is
attached to the hub's group in the same step. No I/O.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import ClassVar, Final, NamedTuple

from app.observability import event_ages, metrics
from app.realtime.connection import Batch, Subscriber
from app.realtime.delivery_account import DeliveryAccount
from app.realtime.event import Delivery, EncodedEvent, Event, encode_event
from app.realtime.hub import Hub
from app.realtime.stream import Position, Reset, StreamEvent, StreamRead, placed, reset_reason
from app.realtime.stream_order import StreamOrder

logger = logging.getLogger(__name__)

CATCH_UP_LIMIT: Final = 1_000
"""Events that one who comes back is sent one by one; who missed more, or more bytes than a connection is sent
at once, starts over from a snapshot."""

TAIL_LIMIT: Final = 1_000
"""Events kept for those who are joining; who takes longer asks the database again."""


class StreamReset(Event):
    """Who follows the stream cannot go on from where they are: they start over from a snapshot."""

    name: ClassVar[str] = "stream.reset"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    stream: str
    reason: Reset


class Ended(NamedTuple):
    """Why a connection follows a stream no longer: it was reset, or (None) an event removed the person."""

    reset: Reset | None


class Following:
    """One connection's place in a stream, from `Streams.follow` on, until `end` or until that is told."""

    __slots__ = ("_audience", "_told", "after", "confirmed", "events", "person", "subscriber")

    def __init__(
        self,
        audience: "StreamAudience",
        subscriber: Subscriber,
        *,
        person: str,
        after: Position,
        told: Callable[[Ended], None],
        events: Sequence[StreamEvent],
    ) -> None:
        self.subscriber = subscriber
        self.person = person
        self.after = after
        self.confirmed = after.sequence
        """Up to there it is known to have everything."""
        self.events: list[StreamEvent] = []
        self.learn(events)
        self._told: Callable[[Ended], None] | None = told
        self._audience: StreamAudience | None = audience

    @property
    def size(self) -> int:
        """Bytes of what it could be sent, without places and frames."""
        return sum(len(event.payload) for event in self.events)

    @property
    def reach(self) -> int:
        """The last sequence that it has or could be sent."""
        return self.after.sequence + len(self.events)

    def learn(self, events: Sequence[StreamEvent]) -> bool:
        """Take what continues its own from `events`: of one life, in order, without holes. False: nothing."""
        if not events or events[0].epoch != self.after.epoch:
            return False
        start = self.reach + 1 - events[0].sequence
        if not 0 <= start < len(events):
            return False
        self.events.extend(islice(events, start, None))
        return True

    def confirm(self, sequence: int) -> None:
        """The client has everything up to `sequence`; what is no news, or was never sent, is ignored."""
        if sequence > self.confirmed and self._audience is not None:
            self._audience.confirm(self, sequence)

    def end(self) -> None:
        """Get no more, and no word of an end either. Doing it again is harmless."""
        self._told = None
        audience, self._audience = self._audience, None
        if audience is not None:
            audience.discard(self)

    def send_away(self, reason: Reset) -> None:
        """Get what was published so far, then `stream.reset`, and nothing more; `told` is called."""
        audience, self._audience = self._audience, None
        if audience is not None:
            audience.send_away(self, reason)

    def has_ended(self, ended: Ended, schedule: Callable[[Callable[[], None]], object]) -> None:
        """It was detached: tell so when this step is over."""
        self._audience = None
        schedule(lambda: self._tell(ended))

    def _tell(self, ended: Ended) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(ended)


class StreamAudience:
    """The followings of one stream, attached or on their way."""

    __slots__ = (
        "_account",
        "_ahead",
        "_asked",
        "_attached",
        "_catch_up_bytes",
        "_encoded",
        "_hub",
        "_order",
        "_schedule",
        "_stream",
        "_tail",
        "short",
    )

    def __init__(
        self,
        stream: str,
        order: StreamOrder,
        hub: Hub,
        account: DeliveryAccount,
        schedule: Callable[[Callable[[], None]], object],
        *,
        catch_up_bytes: int,
    ) -> None:
        self._stream = stream
        self._catch_up_bytes = catch_up_bytes
        self._order = order
        self._hub = hub
        self._account = account
        self._schedule = schedule
        self._attached: dict[Following, None] = {}
        self.short: dict[Following, None] = {}
        """Those who lack what only the database has."""
        self._ahead: dict[Following, None] = {}
        """Those whose position the order has yet to reach."""
        self._asked: list[Following] = []
        self._tail: deque[StreamEvent] = deque(maxlen=TAIL_LIMIT)
        self._encoded: dict[tuple[int, int], EncodedEvent] = {}

    def __len__(self) -> int:
        """How many are attached."""
        return len(self._attached)

    def deliver(self, ready: list[StreamEvent], joining: bool) -> None:
        """Hand the next events to all who are attached. `joining`: others are about to be."""
        if joining:
            self._tail.extend(ready)
        elif self._tail:
            self._tail.clear()
        heard = self._hub.members(self._stream)
        for event in ready:
            if heard:
                event_ages.HUB.reached(event.at, local=event.local)
                written = self._account.given(
                    self._stream, event.epoch, event.sequence, heard, at=event.at, local=event.local
                )
                self._hub.publish(self._stream, self._encode(event, written))
            if event.removes:
                self._remove(event.removes)
                heard = self._hub.members(self._stream)
        for following in list(self._ahead) if self._ahead else ():
            if following.after.sequence <= self._order.sequence:
                del self._ahead[following]
                self._settle(following)

    def join(
        self,
        subscriber: Subscriber,
        *,
        person: str,
        after: Position,
        told: Callable[[Ended], None],
        events: Sequence[StreamEvent],
    ) -> Following:
        """Attach as soon as what lies between is there: mostly at once."""
        if self._hub.is_member(self._stream, subscriber):
            raise RuntimeError(f"this connection is in the group {self._stream!r} already")
        following = Following(self, subscriber, person=person, after=after, told=told, events=events)
        self._settle(following)
        return following

    def confirm(self, following: Following, sequence: int) -> None:
        """The client of `following` has everything up to `sequence`, which is news."""
        if following in self._attached and sequence <= self._order.sequence:
            first, following.confirmed = following.confirmed + 1, sequence
            self._account.confirmed(self._stream, following.after.epoch, first, sequence)

    def discard(self, following: Following) -> None:
        """Detach at once."""
        self.short.pop(following, None)
        self._ahead.pop(following, None)
        if following in self._attached:
            del self._attached[following]
            metrics.subscriptions.dec()
            self._hub.unsubscribe(self._stream, following.subscriber)

    def send_away(self, following: Following, reason: Reset) -> None:
        """Nothing more for this one, but what was published so far."""
        if following in self._attached:
            self._hub.finish(self._stream, [following.subscriber])
        self.discard(following)
        self._send_away(following, reason)

    def ask(self, sequence: int) -> int:
        """The sequence whose successors are wanted, for a stream that itself wants those of `sequence`."""
        self._asked = [*self.short, *self._ahead]
        return min([sequence, *(following.reach for following in self.short)])

    def learn(self, read: StreamRead) -> bool:
        """Go on with those who waited for this answer; the order has learnt it before. False if that brought
        none of them any further."""
        asked, self._asked = self._asked, []
        further = False
        for following in asked:
            if following not in self.short and following not in self._ahead:
                continue
            self.short.pop(following, None)
            self._ahead.pop(following, None)
            reason = reset_reason(Position(following.after.epoch, following.reach), read, CATCH_UP_LIMIT)
            if reason is None:
                further |= following.learn(read.events)
                if following.size > self._catch_up_bytes:
                    reason = Reset.TOO_FAR
            if reason is None:
                self._settle(following)
            else:
                further = True
                self._send_away(following, reason)
        return further

    def reset(self, reason: Reset) -> None:
        """Nobody who is attached can go on."""
        self._tail.clear()
        metrics.stream_resets.labels(reason).inc()
        self._hub.publish(self._stream, encode_event(StreamReset(self._stream, reason)))
        self._finish(list(self._attached), Ended(reason))

    def close(self) -> None:
        """The stream is no more: nobody can go on, and nobody gets there who was on the way."""
        self.reset(Reset.EPOCH)
        for following in [*self.short, *self._ahead]:
            self._send_away(following, Reset.EPOCH)
        self.short.clear()
        self._ahead.clear()

    def stop(self) -> None:
        """Detach everybody."""
        for following in [*self._attached, *self.short, *self._ahead]:
            following.end()

    def _send_away(self, following: Following, reason: Reset) -> None:
        self._write(following, Batch([encode_event(StreamReset(self._stream, reason))]))
        following.has_ended(Ended(reason), self._schedule)

    def _settle(self, following: Following) -> None:
        """Attach, or wait for what is missing."""
        order = self._order
        if following.after.epoch != order.epoch:
            self.short[following] = None
        elif following.after.sequence > order.sequence:
            self._ahead[following] = None
            order.heard_of(following.after.sequence)
        else:
            if following.reach < order.sequence:
                following.learn(self._tail)
            if following.reach >= order.sequence:
                self._attach(following)
            else:
                self.short[following] = None

    def _attach(self, following: Following) -> None:
        between = following.events[: self._order.sequence - following.after.sequence]
        following.events = []
        removed = next((i for i, event in enumerate(between, 1) if event.removes == following.person), None)
        if between:
            sent = between[:removed]
            batch = Batch([self._encode_once(event) for event in sent])
            if len(batch.joined) > self._catch_up_bytes:
                self._send_away(following, Reset.TOO_FAR)
                return
            if self._write(following, batch):
                first, last = sent[0], sent[-1]
                self._account.recovered(self._stream, first.epoch, first.sequence, last.sequence)
        if removed is None:
            self._attached[following] = None
            metrics.subscriptions.inc()
            self._hub.subscribe(self._stream, following.subscriber)
        else:
            following.has_ended(Ended(None), self._schedule)

    def _write(self, following: Following, batch: Batch) -> bool:
        try:
            return following.subscriber.deliver(batch) is not False
        except Exception:
            logger.exception("a subscriber failed to take %d events", len(batch.events))
            return False

    def _encode(self, event: StreamEvent, written: Callable[[int], None] | None = None) -> EncodedEvent:
        return EncodedEvent(placed(self._stream, event), Delivery.DURABLE, written=written)

    def _encode_once(self, event: StreamEvent) -> EncodedEvent:
        """Many come back at once, and lack the same: encoded once for all of the same tick."""
        if not self._encoded:
            self._schedule(self._encoded.clear)
        place = event.epoch, event.sequence
        encoded = self._encoded.get(place)
        if encoded is None:
            encoded = self._encoded[place] = self._encode(event)
        return encoded

    def _remove(self, person: str) -> None:
        gone = [following for following in self._attached if following.person == person]
        if gone:
            self._finish(gone, Ended(None))

    def _finish(self, followings: list[Following], ended: Ended) -> None:
        """What was published so far still goes to them, and nothing after it."""
        self._hub.finish(self._stream, [following.subscriber for following in followings])
        metrics.subscriptions.dec(len(followings))
        for following in followings:
            del self._attached[following]
            following.has_ended(ended, self._schedule)
