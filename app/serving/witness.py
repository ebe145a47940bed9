"""The database as a witness: each node notes whom it hears, and reads what the others noted.

All of it blocks, for the database thread. An error says that there is no witness: who asked stays as it is.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from django.db.models import Q
from django.db.models.functions import Now

from app.realtime.hearing import WITNESS_SECONDS, Beacon, Note
from app.serving.models import NodeNote, Turn

KEEP: Final = timedelta(minutes=1)
"""Older notes are deleted; long before that nobody reads them."""
TURN: Final = timedelta(seconds=30)
"""A turn that is not taken again for so long is free. Longer than a database takes to come back, so that who
holds it is there first."""
LEAVE: Final = "leave"

_FRESH: Final = timedelta(seconds=WITNESS_SECONDS)
_ALL: Final = "*"


class Noted(NamedTuple):
    """What a node noted, as the others read it."""

    note: Note
    name: str
    version: str
    bus: str
    state: str


def note(own: Beacon, state: str, live: int) -> list[Noted]:
    """Note, in one statement, whom this node hears of `live` nodes; return what all live nodes noted last."""
    fields = {
        "name": own.name,
        "version": own.version[:32],
        "bus": own.bus[:64],
        "misses": _ALL if len(own.misses) >= live else ",".join(own.misses),
        "state": state,
        "noted_at": Now(),
    }
    mine = NodeNote.objects.filter(pk=own.incarnation)
    if not mine.update(**fields):
        NodeNote.objects.create(incarnation=own.incarnation, **fields)
    rows = list(NodeNote.objects.filter(noted_at__gt=Now() - _FRESH))
    everybody = frozenset(row.incarnation for row in rows)
    return [_noted(row, everybody) for row in rows]


def forget_old() -> None:
    """Delete what nodes noted that have been gone for long."""
    NodeNote.objects.filter(noted_at__lt=Now() - KEEP).delete()


def forget(incarnation: str) -> None:
    """This node leaves: nobody waits for it, and its turn is free."""
    NodeNote.objects.filter(pk=incarnation).delete()
    give_turn_back(incarnation)


def take_turn(incarnation: str) -> bool:
    """Whether this node may leave, for `TURN` from now. One statement, so never two nodes."""
    free = Q(holder=incarnation) | Q(until__lt=Now())

    def taken() -> int:
        return Turn.objects.filter(free, what=LEAVE).update(holder=incarnation, until=Now() + TURN)

    if taken():
        return True
    nobody = Turn(what=LEAVE, holder="", until=datetime.fromtimestamp(0, UTC))
    Turn.objects.bulk_create([nobody], ignore_conflicts=True)
    return bool(taken())


def give_turn_back(incarnation: str) -> None:
    """The turn is free, if it was this node's."""
    Turn.objects.filter(what=LEAVE, holder=incarnation).delete()


def _noted(row: NodeNote, everybody: frozenset[str]) -> Noted:
    misses = everybody if row.misses == _ALL else frozenset(filter(None, row.misses.split(",")))
    return Noted(Note(row.incarnation, misses), row.name, row.version, row.bus, row.state)
