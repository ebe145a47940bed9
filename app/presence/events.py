"""Who is here, as it travels: what clients are told, and what nodes tell each other.

Soft state: nothing here is stored, and everything is told again until it is right.
"""

from typing import Annotated, ClassVar

import msgspec

from app.realtime.event import Delivery, Event
from app.realtime.identity import Identity


def nodes_group(room: str) -> str:
    """Where the nodes with people in `room` tell each other who; never a connection's group."""
    return f"presence.{room}"


class Member(msgspec.Struct, frozen=True):
    """A person in a room, and the names of the nodes that hold their connections."""

    id: str
    name: str
    guest: bool
    nodes: tuple[str, ...]


class MemberJoined(Event):
    """Somebody came; `count` is how many are here now."""

    name: ClassVar[str] = "presence.joined"
    delivery: ClassVar[Delivery] = Delivery.DROPPABLE

    room: str
    member: Member
    count: int


class MemberLeft(Event):
    """Somebody has been gone for longer than a reconnect takes."""

    name: ClassVar[str] = "presence.left"
    delivery: ClassVar[Delivery] = Delivery.DROPPABLE

    room: str
    member: Member
    count: int


class MemberMoved(Event):
    """Somebody who stayed has their connections on other nodes now."""

    name: ClassVar[str] = "presence.moved"
    delivery: ClassVar[Delivery] = Delivery.DROPPABLE

    room: str
    member: Member


class RosterChanged(Event):
    """Who is here, whole: it mends whatever a slow client was not told one by one."""

    name: ClassVar[str] = "presence.roster"
    delivery: ClassVar[Delivery] = Delivery.LATEST

    room: str
    members: list[Member]
    count: int

    def coalesce_key(self) -> str:
        return f"{self.name} {self.room}"


class _FromNode(msgspec.Struct, frozen=True, tag_field="kind"):
    """What a node tells the others; `incarnation` says which life of which node speaks."""

    incarnation: str


class Beat(_FromNode, frozen=True, tag="beat"):
    """I live, and my people of this room are those of `version`."""

    version: int


class Change(_FromNode, frozen=True, tag="change"):
    """What leads from the people of version `after` to those of `version`."""

    after: int
    version: int
    entered: tuple[Identity, ...]
    left: tuple[str, ...]


class Roster(_FromNode, frozen=True, tag="roster"):
    """All my people of this room; `fresh`: they came just now, I had nobody there before."""

    node: str
    version: int
    people: tuple[Identity, ...]
    fresh: bool = False


class Ask(_FromNode, frozen=True, tag="ask"):
    """Send your roster: the node of incarnation `of`, or every node when it is empty."""

    of: Annotated[str, msgspec.Meta(max_length=64)] = ""


NodeMessage = Beat | Change | Roster | Ask
