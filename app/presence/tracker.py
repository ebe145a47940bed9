"""Who is in one room over all nodes, worked out from what the nodes tell each other.

No I/O and no clock: every method that needs the time is given it, in seconds.
"""

from collections.abc import Iterator
from itertools import islice, takewhile
from math import inf
from typing import Final, NamedTuple

from app.presence.events import Ask, Beat, Change, Member, NodeMessage, Roster
from app.realtime.identity import Identity

LEASE_SECONDS: Final = 12.0
"""A node not heard for so long is dead and its people are gone: two lost beats are forgiven."""

GRACE_SECONDS: Final = 3.0
"""A person who is back on any node within this never left: it covers a reload and a move to another node."""


class Changes(NamedTuple):
    """What people should be told since they were told last."""

    joined: list[Member]
    left: list[Member]
    moved: list[Member]
    learnt: bool
    """Another node's whole roster is part of it: these people did not come just now."""


class _People:
    """One node's people of the room."""

    __slots__ = ("by_id", "lease", "node", "version")

    def __init__(self, node: str, version: int, lease: float) -> None:
        self.node = node
        self.version = version
        self.lease = lease
        self.by_id: dict[str, Identity] = {}


class RoomTracker:
    """One room as one node sees it.

    `versions` must never give a number twice in this incarnation's life, so that no version of a forgotten
    tracker is taken for one of this.
    """

    def __init__(self, incarnation: str, node: str, versions: Iterator[int]) -> None:
        self._incarnation = incarnation
        self._versions = versions
        self._own = _People(node, next(versions), inf)
        self._nodes = {incarnation: self._own}
        self._connections: dict[str, set[object]] = {}
        self._where: dict[str, dict[str, Identity]] = {}
        self._told: dict[str, Member] = {}
        self._leaving: dict[str, float] = {}
        self._touched: set[str] = set()
        self._learnt = False
        self._unsent: set[str] = set()
        self._roster_due = True
        self._fresh = True
        self._asks_due = {""}

    # --- This node's connections ------------------------------------------------------------------------

    def enter(self, person: Identity, connection: object) -> None:
        """`connection` of `person` is in the room."""
        self._connections.setdefault(person.id, set()).add(connection)
        if self._own.by_id.get(person.id) != person:
            self._put(self._incarnation, person)
            self._unsent.add(person.id)

    def leave(self, person_id: str, connection: object) -> None:
        """`connection` is not in the room any more; the person is gone with the last."""
        connections = self._connections.get(person_id, set())
        connections.discard(connection)
        if not connections and self._connections.pop(person_id, None) is not None:
            self._remove(self._incarnation, person_id)
            self._unsent.add(person_id)

    @property
    def empty(self) -> bool:
        """Whether this node has nobody in the room."""
        return not self._own.by_id

    # --- The other nodes --------------------------------------------------------------------------------

    def hear(self, message: NodeMessage, now: float) -> None:
        """What another node said."""
        sender = message.incarnation
        if sender == self._incarnation:
            return
        if isinstance(message, Ask):
            self._roster_due |= message.of in {"", self._incarnation}
            return
        people = self._nodes.get(sender)
        if isinstance(message, Roster):
            self._replace(message, now)
        elif people is None:
            self._asks_due.add(sender)
        elif isinstance(message, Change) and people.version == message.after:
            people.version = message.version
            for person in message.entered:
                self._put(sender, person)
            for person_id in message.left:
                self._remove(sender, person_id)
        elif people.version != message.version:
            self._asks_due.add(sender)
        if people is not None:
            people.lease = now + LEASE_SECONDS

    def expire(self, now: float) -> None:
        """Drop the nodes whose lease is over."""
        for incarnation in [key for key, people in self._nodes.items() if people.lease <= now]:
            for person_id in list(self._nodes[incarnation].by_id):
                self._remove(incarnation, person_id)
            del self._nodes[incarnation]

    def hold(self, now: float) -> None:
        """The bus is away, so silence says nothing: no lease ends, and everybody is asked when it is back."""
        for people in self._nodes.values():
            people.lease = max(people.lease, now + LEASE_SECONDS)
        self._asks_due = {""}
        self._roster_due = True

    def beat(self) -> Beat:
        """What the others must hear more often than the lease is long."""
        return Beat(self._incarnation, self._own.version)

    def take_outgoing(self) -> list[NodeMessage]:
        """What the other nodes should be told now, in this order."""
        outgoing: list[NodeMessage] = []
        if self._unsent:
            before, self._own.version = self._own.version, next(self._versions)
            entered = tuple(self._own.by_id[key] for key in self._unsent if key in self._own.by_id)
            left = tuple(key for key in self._unsent if key not in self._own.by_id)
            if not self._roster_due:
                outgoing.append(Change(self._incarnation, before, self._own.version, entered, left))
            self._unsent.clear()
        if self._roster_due:
            people = tuple(self._own.by_id.values())
            outgoing.append(Roster(self._incarnation, self._own.node, self._own.version, people, self._fresh))
            self._roster_due = self._fresh = False
        outgoing.extend(Ask(self._incarnation, of) for of in sorted(self._asks_due))
        self._asks_due = set()
        return outgoing

    # --- What people see --------------------------------------------------------------------------------

    def members(self, limit: int) -> list[Member]:
        """The first `limit` people of those whom people were told of."""
        return list(islice(self._told.values(), limit))

    def name_of(self, person_id: str) -> str:
        """The name of somebody whom people were told of; else empty."""
        member = self._told.get(person_id)
        return "" if member is None else member.name

    @property
    def count(self) -> int:
        """How many people were told of, and not yet told gone."""
        return len(self._told)

    def take_changes(self, now: float) -> Changes:
        """What happened since the last call; whoever went is told only when the grace is over."""
        changes = Changes([], [], [], self._learnt)
        self._learnt = False
        for person_id in self._touched:
            member, before = self._member(person_id), self._told.get(person_id)
            if member is None:
                if before is not None:
                    self._leaving.setdefault(person_id, now + GRACE_SECONDS)
                continue
            self._leaving.pop(person_id, None)
            self._told[person_id] = member
            if before is None:
                changes.joined.append(member)
            elif before != member:
                changes.moved.append(member)
        self._touched.clear()
        # In order of time, as one grace is as long as the next: a crowd that leaves is not looked through.
        for person_id, _ in list(takewhile(lambda item: item[1] <= now, self._leaving.items())):
            del self._leaving[person_id]
            changes.left.append(self._told.pop(person_id))
        return changes

    def _member(self, person_id: str) -> Member | None:
        where = self._where.get(person_id)
        if not where:
            return None
        person = next(iter(where.values()))
        nodes = tuple(sorted({self._nodes[incarnation].node for incarnation in where}))
        return Member(person.id, person.name, person.guest, nodes)

    def _replace(self, roster: Roster, now: float) -> None:
        sender = roster.incarnation
        people = self._nodes.setdefault(sender, _People(roster.node, 0, now))
        people.node, people.version, people.lease = roster.node, roster.version, now + LEASE_SECONDS
        for person_id in people.by_id.keys() - {person.id for person in roster.people}:
            self._remove(sender, person_id)
        for person in roster.people:
            if people.by_id.get(person.id) != person:
                self._put(sender, person)
                self._learnt |= not roster.fresh

    def _put(self, incarnation: str, person: Identity) -> None:
        self._nodes[incarnation].by_id[person.id] = person
        self._where.setdefault(person.id, {})[incarnation] = person
        self._touched.add(person.id)

    def _remove(self, incarnation: str, person_id: str) -> None:
        if self._nodes[incarnation].by_id.pop(person_id, None) is None:
            return
        where = self._where[person_id]
        del where[incarnation]
        if not where:
            del self._where[person_id]
        self._touched.add(person_id)
