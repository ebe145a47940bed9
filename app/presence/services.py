"""Who is here, kept between nodes: moves a tracker's words over the bus and tells this node's connections.

Never waits and never stores: with the bus away it goes on with the people of this node.
"""

import asyncio
import time
from itertools import count
from typing import Final

import msgspec

from app.observability import metrics
from app.presence.events import (
    Member,
    MemberJoined,
    MemberLeft,
    MemberMoved,
    NodeMessage,
    RosterChanged,
    nodes_group,
)
from app.presence.tracker import RoomTracker
from app.realtime.connection import Batch
from app.realtime.event import Delivery, EncodedEvent, Event, encode_event
from app.realtime.identity import Identity
from app.realtime.node import Node

TICK_SECONDS: Final = 1.0
"""How often leases and graces are looked at: by one timer per node."""

BEAT_TICKS: Final = 5
"""A beat every five ticks: two may get lost within a lease."""

ROSTER_LIMIT: Final = 100
"""A client is told so many names at most, and a room with more gets rosters instead of single notices:
n people who come would otherwise cost n² events."""

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(NodeMessage)


class People(msgspec.Struct, frozen=True):
    """The first `ROSTER_LIMIT` members, and how many there are."""

    members: list[Member]
    count: int


class _Room:
    """One room on this node: the tracker, and the subscriber that hears the other nodes."""

    def __init__(
        self, presence: "Presence", name: str, audience: str, tracker: RoomTracker, turn: int
    ) -> None:
        self.name = name
        self.audience = audience
        self.tracker = tracker
        self.turn = turn
        """Rooms beat at different ticks: who is in many does not get all their rosters at once."""
        self.stale = False
        self.flushing = False
        self._presence = presence

    def deliver(self, batch: Batch) -> None:
        for event in batch.events:
            try:
                message = _decoder.decode(event.payload)
            except msgspec.DecodeError:
                metrics.bus_received.labels("unknown").inc()
            else:
                self.tracker.hear(message, time.monotonic())
        self._presence.tell(self)
        self._presence.flush_soon(self)


class Presence:
    """The people of one node's rooms."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._versions = count(1)
        self._rooms: dict[str, _Room] = {}
        self._ticking = False
        self._ticks = 0
        node.before_stop(self._stop)

    def enter(self, room: str, audience: str, person: Identity, connection: object) -> People:
        """`connection` came into `room`, whose connections listen to the group `audience`."""
        kept = self._rooms.get(room) or self._open(room, audience)
        kept.tracker.enter(person, connection)
        self.tell(kept)
        self.flush_soon(kept)
        return People(kept.tracker.members(ROSTER_LIMIT), kept.tracker.count)

    def leave(self, room: str, person_id: str, connection: object) -> None:
        """`connection` left `room`, or is gone. Unknown ones are ignored."""
        kept = self._rooms.get(room)
        if kept is not None:
            kept.tracker.leave(person_id, connection)
            self.tell(kept)
            self.flush_soon(kept)

    def tell_all_later(self, room: str) -> None:
        """Tell this node's connections in `room` who is there, at its next beat."""
        kept = self._rooms.get(room)
        if kept is not None:
            kept.stale = True

    def name_of(self, room: str, person_id: str) -> str:
        """The name of somebody who is in `room`, as far as this node knows; else empty."""
        kept = self._rooms.get(room)
        return "" if kept is None else kept.tracker.name_of(person_id)

    def tell(self, room: _Room) -> None:
        """Tell this node's connections what changed."""
        changes = room.tracker.take_changes(time.monotonic())
        if not (changes.joined or changes.left or changes.moved):
            return
        count = room.tracker.count
        if changes.learnt:
            self._tell_roster(room)
            return
        room.stale = True
        if count + len(changes.left) > ROSTER_LIMIT:
            return
        events: list[Event] = [MemberJoined(room.name, member, count) for member in changes.joined]
        events += [MemberMoved(room.name, member) for member in changes.moved]
        events += [MemberLeft(room.name, member, count) for member in changes.left]
        for event in events:
            self.node.hub.publish(room.audience, encode_event(event))

    def flush_soon(self, room: _Room) -> None:
        """Tell the other nodes at the end of this tick: what one tick changed is one message."""
        if not room.flushing:
            room.flushing = True
            asyncio.get_running_loop().call_soon(self._flush, room)

    def _open(self, room: str, audience: str) -> _Room:
        tracker = RoomTracker(self.node.incarnation.hex(), self.node.name, self._versions)
        kept = self._rooms[room] = _Room(self, room, audience, tracker, len(self._rooms))
        # The ask travels behind the subscription on the same bus, and a lost answer is asked for again
        # at the next beat: nobody has to wait here.
        subscribed = self.node.subscribe(nodes_group(room), kept)
        kept.flushing = True
        subscribed.add_done_callback(lambda _: self._flush(kept))
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        return kept

    def _flush(self, room: _Room) -> None:
        room.flushing = False
        if self._rooms.get(room.name) is not room:
            return
        for message in room.tracker.take_outgoing():
            self._send(room, message)
        if room.tracker.empty:
            del self._rooms[room.name]
            self.node.unsubscribe(nodes_group(room.name), room)

    def _send(self, room: _Room, message: NodeMessage) -> None:
        event = EncodedEvent(_encoder.encode(message), Delivery.DROPPABLE)
        self.node.publish(nodes_group(room.name), event)

    def _tell_roster(self, room: _Room) -> None:
        room.stale = False
        members = room.tracker.members(ROSTER_LIMIT)
        roster = RosterChanged(room.name, members, room.tracker.count)
        self.node.hub.publish(room.audience, encode_event(roster))

    async def _stop(self) -> None:
        """Nobody is here any more: the ticks end."""
        self._rooms.clear()

    def _tick(self) -> None:
        if not self._rooms:
            self._ticking = False
            return
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        self._ticks += 1
        now, connected = time.monotonic(), self.node.broker.connected
        for room in list(self._rooms.values()):
            if connected:
                room.tracker.expire(now)
            else:
                room.tracker.hold(now)
            self.tell(room)
            beating = (self._ticks + room.turn) % BEAT_TICKS == 0
            if beating and room.stale:
                self._tell_roster(room)
            if connected:
                if beating:
                    self._send(room, room.tracker.beat())
                self.flush_soon(room)


def presence_of(node: Node) -> Presence:
    """The presence of `node`, made when it is first asked for."""
    return node.part(Presence)
