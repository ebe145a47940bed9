"""Whom a node hears, when that is well, and when it is the node's own fault. Rules only: no I/O, no clock.

Well is stricter than deaf. Who is not well reads its streams from the database more often: that costs little.
Deaf is who hears less than another node does: a bus that is gone for all makes nobody deaf, nor does a doubt.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

HEARD_SECONDS: Final = 3.0
"""A node that was heard so recently is heard now. Beacons come every two seconds."""
FORGET_SECONDS: Final = 10.0
"""Without a witness a silent node is thought alive for so long."""
WITNESS_SECONDS: Final = 6.0
"""What the witness said is true for so long: three of its rounds."""


class Beacon(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node tells the others of itself. Fields of other releases are skipped, missing ones default."""

    incarnation: str
    name: str
    version: str = ""
    writes: int = 1
    """In which version of the bus' format it says everything but beacons."""
    connections: int = 0
    loop_lag: float = 0.0
    """Seconds by which the last timer was late."""
    bus: str = ""
    """Which life of which bus: Redis' run id. Empty: not known."""
    misses: tuple[str, ...] = ()
    """Incarnations that live and are not heard, its own among them; it hears all others."""
    leaving: bool = False
    """The last one of this node: nobody need wait for another."""
    draining: bool = False
    """It lets its connections go, and wants no others."""
    accepts: float | None = None
    """New connections per second that it can take now. None: its release does not say."""


class View(NamedTuple):
    """What a node knows in one moment; times in seconds of its own clock."""

    now: float
    me: str
    live: Mapping[str, float]
    """Who lives, this node included, and from when on it was to be heard."""
    heard: Mapping[str, float]
    """Who was heard, and when last."""
    buses: frozenset[str]
    """The lives of the bus that this node and the live ones are on."""
    failed: float | None
    """When a publish of this node last failed."""
    unread: frozenset[str] = frozenset()
    """Who is heard, and writes what this node cannot read."""


class Note(NamedTuple):
    """What a node had the witness note."""

    incarnation: str
    misses: frozenset[str]


def missed(view: View) -> frozenset[str]:
    """Who lives and was not heard for `HEARD_SECONDS`."""
    return frozenset(
        node
        for node, since in view.live.items()
        if view.now - max(since, view.heard.get(node, since)) > HEARD_SECONDS
    )


def why_unwell(view: View) -> str:
    """Why this node may not get everything over the bus, for people; empty: it is well."""
    misses = missed(view)
    if view.me in misses:
        return "does not hear itself"
    if misses:
        return f"does not hear {len(misses)} of {len(view.live)} nodes"
    if len(view.buses) > 1:
        return f"the nodes are on {len(view.buses)} different buses"
    if view.unread:
        return f"does not understand the release of {len(view.unread)} of {len(view.live)} nodes"
    if view.failed is not None and view.now - view.failed <= HEARD_SECONDS:
        return "a publish failed"
    return ""


def is_deaf(me: str, notes: Collection[Note]) -> bool:
    """Whether some other node hears more than this one. A node that does not hear itself hears nothing."""
    live = {note.incarnation for note in notes}
    scores = {
        note.incarnation: 0 if note.incarnation in note.misses else len(live - note.misses) for note in notes
    }
    return me in scores and scores[me] < max(scores.values())


class Hearing:
    """What this node has heard, and who lives as far as it knows. `reads`: the versions of the bus' format
    that it understands."""

    def __init__(self, me: str, now: float, reads: Collection[int] = (1,)) -> None:
        self.me = me
        self._reads = reads
        self.beacons: dict[str, Beacon] = {}
        self._since = {me: now}
        self._heard: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self._noted: frozenset[str] = frozenset()
        self._noted_at = float("-inf")
        self._failed: float | None = None

    def heard(self, beacon: Beacon, now: float) -> None:
        """A beacon came over the bus; this node's own ones count."""
        node = beacon.incarnation
        if beacon.leaving:
            self._left[node] = now
            self._forget(node)
            return
        self.beacons[node] = beacon
        self._heard[node] = now
        self._since.setdefault(node, now)

    def noted(self, live: Iterable[str], now: float) -> None:
        """The witness says who lives."""
        self._noted = frozenset(live)
        self._noted_at = now

    def failed(self, now: float) -> None:
        """A publish of this node failed."""
        self._failed = now

    def excuse(self, now: float) -> None:
        """This node could not listen until now: nobody is missed for what was said meanwhile."""
        self._since = dict.fromkeys(self._since, now)

    def view(self, now: float, bus: str) -> View:
        """What is known now, by a node on the bus `bus`. Who neither speaks nor is noted is forgotten."""
        witnessed = now - self._noted_at <= WITNESS_SECONDS
        patience = HEARD_SECONDS if witnessed else FORGET_SECONDS
        live = {self.me} | {node for node, at in self._heard.items() if now - at <= patience}
        if witnessed:
            live |= self._noted - self._left.keys()
        for node in self._since.keys() - live:
            self._forget(node)
        for node in live:
            self._since.setdefault(node, now)
        self._left = {node: at for node, at in self._left.items() if now - at <= 2 * WITNESS_SECONDS}
        buses = {bus, *(beacon.bus for node, beacon in self.beacons.items() if node != self.me)}
        return View(
            now,
            self.me,
            live=dict(self._since),
            heard=dict(self._heard),
            buses=frozenset(buses - {""}),
            failed=self._failed,
            unread=frozenset(n for n, one in self.beacons.items() if one.writes not in self._reads),
        )

    def _forget(self, node: str) -> None:
        if node != self.me:
            for kept in (self.beacons, self._since, self._heard):
                kept.pop(node, None)
