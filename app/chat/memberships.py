"""Chat's reads of who belongs to a room, by name. They block: the event loop asks through `room_reads`."""

from typing import Final

from django.db.models import Case, Q, Value, When

from app.accounts.selectors import account_named, names_of_accounts
from app.chat.events import RoomMember, RoomMembers
from app.chat.models import MEMBERS, Membership, Role
from app.chat.selectors import Standing, standings
from app.database.snapshot import one_snapshot
from app.realtime.protocol import CommandError

LISTED_LIMIT: Final = 500
"""Owners and moderators come first; whoever is not listed is found by name."""

MODERATORS: Final = (Role.OWNER, Role.MODERATOR)

_BY_RANK: Final = Case(*(When(role=role, then=Value(rank)) for rank, role in enumerate(MEMBERS)), default=9)


def members_of(slug: str, person: str) -> RoomMembers:
    """Who belongs to the room; to moderators also who is muted or banned there. Raises `CommandError`."""
    with one_snapshot():
        standing = _standing_of(slug, person)
        shown = Q(role__in=MEMBERS)
        if standing.role in MODERATORS:
            shown |= Q(role=Role.BANNED) | Q(muted=True)
        found = Membership.objects.filter(shown, room_id=standing.room_id)
        count = found.count()
        rows = list(found.order_by(_BY_RANK, "id")[:LISTED_LIMIT])
        names = names_of_accounts(row.person for row in rows)
    return RoomMembers(slug, [_member(row, names.get(row.person, row.name)) for row in rows], count)


def person_named(slug: str, asker: str, name: str) -> RoomMember:
    """Whose account has a name that reads like this one, and what they are in the room. For moderators.
    Raises `CommandError`."""
    with one_snapshot():
        standing = _standing_of(slug, asker)
        if standing.role not in MODERATORS:
            raise CommandError("not_allowed", "only a moderator or an owner may do this")
        account = account_named(name)
        if account is None:
            raise CommandError("not_found", "no account has this name")
        row = Membership.objects.filter(room_id=standing.room_id, person=account.id).first()
    return _member(row or Membership(person=account.id, role=Role.VISITOR), account.name)


def name_of(person: str) -> str:
    """The name of somebody's account; empty for guests and for nobody."""
    return names_of_accounts([person]).get(person, "")


def _standing_of(slug: str, person: str) -> Standing:
    (standing,) = standings([(slug, person)])
    if isinstance(standing, CommandError):
        raise standing
    return standing


def _member(row: Membership, name: str) -> RoomMember:
    role = None if row.role == Role.VISITOR else row.role
    return RoomMember(row.person, name, not row.person.startswith("u"), role, row.muted)
