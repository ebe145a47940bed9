"""Beacons: every two seconds a node tells its peers who it is and whom it hears, and listens for theirs.

A node's own beacon comes back to it over the bus, like everybody's: so it knows that it hears at all.

A beacon is a JSON object in no envelope: whatever else two releases say in different words, this they both
understand, for ever. Fields may be added; none ever goes, or means something else.
"""

import asyncio
import logging
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Final

import msgspec

from app import VERSION
from app.observability import metrics
from app.realtime import envelope
from app.realtime.broker import Broker
from app.realtime.hearing import Beacon, Hearing, View, missed, why_unwell

logger = logging.getLogger(__name__)

GROUP: Final = "node.beacons"

TICK_SECONDS: Final = 1.0
"""How often a node looks whom it hears; it speaks at every second tick."""
STALLED_SECONDS: Final = 1.0
"""A look that is so late says that the loop stood still: what was said meanwhile is yet to be read."""

_lag: Final = metrics.loop_lag.labels()
_heard: Final = metrics.bus_received.labels("heard")
_echo: Final = metrics.bus_received.labels("echo")
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Beacon)


class Beacons:
    """One node's beacons, from `start` to `stop`.

    `say` publishes to `GROUP` on the bus, as it is; whatever comes from there, own ones too, goes to `take`.
    """

    def __init__(
        self,
        name: str,
        incarnation: str,
        broker: Broker,
        say: Callable[[bytes], bool],
        connections: Callable[[], int],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.hearing = Hearing(incarnation, self._loop.time(), reads=envelope.FORMATS)
        self.why_unwell = ""
        """Why this node may not get everything over the bus; empty: it is well."""
        self.misses: frozenset[str] = frozenset()
        self.draining = False
        """Whether this node lets its connections go."""
        self.accepts: Callable[[float], float | None] = lambda loop_lag: None
        """What this node can take now: asked with the loop's lag, answers in connections per second."""
        self._name = name
        self._broker = broker
        self._say = say
        self._connections = connections
        self._loop_lag = 0.0
        self._looked = self._loop.time()
        self._failures = broker.failures
        self._speaking = False
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """The subscription to `GROUP` is asked for already: the first beacon follows it."""
        self.hearing.excuse(self._loop.time())
        self._tick(self._loop.time())

    def stop(self) -> None:
        """Say good-bye."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._say(_encoder.encode(msgspec.structs.replace(self.own(), leaving=True)))

    def speak(self) -> None:
        """Say a beacon now: the others are waiting for it."""
        if self._timer is not None and not self._say(_encoder.encode(self.own())):
            self.hearing.failed(self._loop.time())

    def take(self, payload: bytes) -> None:
        """A beacon came over the bus."""
        try:
            beacon = _decoder.decode(payload)
        except msgspec.DecodeError:
            metrics.bus_received.labels("unknown").inc()
        else:
            (_echo if beacon.incarnation == self.hearing.me else _heard).inc()
            self.hearing.heard(beacon, self._loop.time())

    def own(self) -> Beacon:
        """What this node says of itself now."""
        return Beacon(
            incarnation=self.hearing.me,
            name=self._name,
            version=VERSION,
            writes=envelope.WRITES,
            connections=self._connections(),
            loop_lag=round(self._loop_lag, 3),
            bus=self._broker.bus_id,
            misses=tuple(sorted(self.misses)),
            draining=self.draining,
            accepts=0.0 if self.draining else self.accepts(self._loop_lag),
        )

    def heard_now(self) -> list[Beacon]:
        """The latest beacons of the other nodes that this one hears."""
        gone = {self.hearing.me, *self.misses}
        return [beacon for node, beacon in self.hearing.beacons.items() if node not in gone]

    def peers(self) -> dict[str, str]:
        """The other nodes that live as far as this one knows: incarnation → name, or again the incarnation
        where only the witness knows of it."""
        live = self.hearing.view(self._loop.time(), self._broker.bus_id).live
        told = self.hearing.beacons
        return {one: told[one].name if one in told else one for one in live if one != self.hearing.me}

    def look(self) -> View:
        """Judge whom this node hears, now."""
        now = self._loop.time()
        if now - self._looked > TICK_SECONDS + STALLED_SECONDS:
            self.hearing.excuse(now)
        self._looked = now
        if self._broker.failures != self._failures:
            self._failures = self._broker.failures
            self.hearing.failed(now)
        view = self.hearing.view(now, self._broker.bus_id)
        self.misses = missed(view)
        why = why_unwell(view)
        if bool(why) != bool(self.why_unwell):
            if why:
                logger.warning("bus: this node may not get everything: %s", why)
            else:
                logger.info("bus: all nodes are heard")
        self.why_unwell = why
        metrics.peers.labels("live").set(len(view.live))
        metrics.peers.labels("missed").set(len(self.misses))
        metrics.bus_healthy.set(not why)
        return view

    def _tick(self, due: float) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_at(now + TICK_SECONDS, self._tick, now + TICK_SECONDS)
        self._loop_lag = now - due
        _lag.observe(self._loop_lag)
        self.look()
        self._speaking = not self._speaking
        if self._speaking:
            self.speak()
