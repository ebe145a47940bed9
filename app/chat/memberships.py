"""Chat's reads of who belongs to a room, by name. They block: the event loop asks through `room_reads`."""

from typing import Final

from app.accounts.selectors import account_named, names_of_accounts
from app.chat.events import RoomMember
from app.chat.models import MEMBERS, Membership, Role
from app.chat.selectors import standing_of
from app.database.snapshot import one_snapshot
from app.realtime.protocol import CommandError

LISTED_LIMIT: Final = 500
"""Owners and moderators come first; whoever is not listed is found by name."""

COUNTED_LIMIT: Final = 10_000

MODERATORS: Final = (Role.OWNER, Role.MODERATOR)


def members_of(slug: str, person: str) -> tuple[list[RoomMember], int]:
    """Who belongs to the room, those first who matter most, and how many they are; to moderators also who is
    muted or banned there. Both have a limit. Raises `CommandError`.

    Whoever only read there is not looked at: of them a public room may have very many.
    """
    with one_snapshot():
        standing = standing_of(slug, person)
        room = Membership.objects.filter(room_id=standing.room_id)
        shown = [room.filter(role=role) for role in MEMBERS]
        if standing.role in MODERATORS:
            shown += [room.filter(role=Role.VISITOR, muted=True), room.filter(role=Role.BANNED)]
        rows: list[Membership] = []
        count = 0
        for some in shown:
            rows += some.order_by("id")[: LISTED_LIMIT - len(rows)]
            count += some[: COUNTED_LIMIT - count].count()
        names = names_of_accounts(row.person for row in rows)
    return [_member(row, names.get(row.person, row.name)) for row in rows], count


def person_named(slug: str, asker: str, name: str) -> RoomMember:
    """Whose account has a name that reads like this one, and what they are in the room. For moderators.
    Raises `CommandError`."""
    with one_snapshot():
        standing = standing_of(slug, asker)
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


def _member(row: Membership, name: str) -> RoomMember:
    role = None if row.role == Role.VISITOR else row.role
    return RoomMember(row.person, name, not row.person.startswith("u"), role, row.muted)
