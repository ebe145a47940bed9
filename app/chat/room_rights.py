"""Whether who is in a room may still be there: the one place that sends out those who may not any more.

Removals come as events of the room's stream, in their place; this is for what was changed past it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import ClassVar, Protocol

from app.accounts.rechecks import Rechecks
from app.chat.events import room_group
from app.chat.selectors import Pair, pairs_without_right
from app.realtime.node import Node


class Rooms(Protocol):
    """The rooms that one connection is in."""

    @property
    def followed(self) -> Collection[str]:
        """The slugs of those whose events it gets."""

    def send_out(self, slug: str) -> None:
        """It gets no more of this one's; coming in again is asked for like at first."""


class RoomRights(Rechecks[Rooms, str, Pair, None]):
    """One node's rooms of connections; the value is whose they are."""

    subjects: ClassVar[tuple[str, ...]] = ("room.",)
    what: ClassVar[str] = "asking who may be in rooms"

    def questions(self, owner: Rooms, value: str) -> Iterable[Pair]:
        return [(slug, value) for slug in owner.followed]

    def concerned(self, owner: Rooms, value: str, subjects: Set[str]) -> bool:
        return any(room_group(slug) in subjects for slug in owner.followed)

    def judge(self, questions: Sequence[Pair]) -> Mapping[Pair, None]:
        return dict.fromkeys(pairs_without_right(questions))

    def revoke(self, owner: Rooms, question: Pair, verdict: None) -> None:
        owner.send_out(question[0])


def rights_of(node: Node) -> RoomRights:
    """The rights of `node`'s connections, made when they are first asked for."""
    return node.part(RoomRights)
