"""Chat's reads. They block: the event loop asks through `room_reads`.

Whoever reads a room gets its standing in the same snapshot: what somebody may not see is never read out.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec
from django.db import connection
from django.db.models import Q

from app.chat.events import KeptMessage, room_group
from app.chat.models import MEMBERS, Membership, Message, Role, Room
from app.database.snapshot import one_snapshot
from app.journal.services import open_stream
from app.realtime.identity import Identity
from app.realtime.protocol import CommandError
from app.realtime.stream import PLACE_BYTES, Position, StreamRead
from app.realtime.stream_audience import CATCH_UP_LIMIT

SNAPSHOT_MESSAGES: Final = 50
"""What somebody who joins gets to see at once."""

UNREAD_LIMIT: Final = 100
"""Messages behind a mark that are looked at: nobody reads the difference, and everybody who comes back is
counted for."""

Pair = tuple[str, str]
"""A room's slug and a person's id."""

Marked = tuple[str, str, int]
"""A pair, and up to where this person read the room by a mark that may not be written yet; 0: none."""

Place = tuple[str, int]
"""A stream's name and a sequence in it."""


class Standing(NamedTuple):
    """What a room is to a person, and where its stream is."""

    room_id: int
    title: str
    public: bool
    role: Role
    muted: bool
    stream: StreamRead
    """Where it is; without events."""
    last_read: int | None
    unread: int

    @property
    def position(self) -> Position:
        """That of the stream's last event."""
        return Position(self.stream.epoch, self.stream.last_sequence)


class Latest(NamedTuple):
    """A room's latest messages, oldest first; `earlier`: there are more before them."""

    messages: list[KeptMessage]
    earlier: bool


def rooms(person: str = "") -> list[Room]:
    """The rooms that this person sees, by title: the public ones, and those they are a member of."""
    inside = Membership.objects.filter(person=person, role__in=MEMBERS).values("room")
    return list(Room.objects.filter(Q(public=True) | Q(pk__in=inside), listed=True))


def room_by_slug(slug: str) -> Room | None:
    """The room at this address."""
    return Room.objects.filter(slug=slug).first()


def role_in(room: Room, person: str) -> Role:
    """What this person is there."""
    membership = room.memberships.filter(person=person).first()
    return Role(membership.role) if membership else Role.VISITOR


def is_there(public: bool, role: Role) -> bool:
    """Whether a room is there for somebody: one for members is not, for everybody else."""
    return public or role in MEMBERS


def no_room(slug: str) -> CommandError:
    """The answer to who asks for a room that is not there."""
    return CommandError("not_found", f"there is no room {slug}")


def standings(pairs: Sequence[Marked]) -> list[Standing | CommandError]:
    """What each room is to each person, or why they may not be there; one query."""
    asked = [
        {"n": n, "room": room, "person": person, "marked": marked}
        for n, (room, person, marked) in enumerate(pairs)
    ]
    with connection.cursor() as cursor:
        cursor.execute(_STANDINGS[connection.vendor], [msgspec.json.encode(asked).decode()])
        rows = map(_Row._make, cursor.fetchall())
    return [_standing(pairs[row.n][0], row) for row in sorted(rows, key=attrgetter("n"))]


def standing_of(slug: str, person: str) -> Standing:
    """What one room is to one person; one query. Raises `CommandError`."""
    (standing,) = standings([(slug, person, 0)])
    if isinstance(standing, CommandError):
        raise standing
    return standing


def pairs_without_right(pairs: Sequence[Pair]) -> list[Pair]:
    """Those persons who may not be in those rooms; one query."""
    asked = [{"n": n, "room": room, "person": person} for n, (room, person) in enumerate(pairs)]
    with connection.cursor() as cursor:
        cursor.execute(_ROLES[connection.vendor], [msgspec.json.encode(asked).decode()])
        return [pairs[n] for n, public, role in cursor.fetchall() if _why_not(pairs[n][0], public, role)]


def latest_messages(room_ids: Collection[int]) -> dict[int, Latest]:
    """The latest `SNAPSHOT_MESSAGES` of each of these rooms; one query."""
    kept: dict[int, list[KeptMessage]] = defaultdict(list)
    if room_ids:
        places = ", ".join(["%s"] * len(room_ids))
        for message in Message.objects.raw(_LATEST[connection.vendor].format(rooms=places), list(room_ids)):
            kept[message.room_id].append(_kept(message))
    return {
        room_id: Latest(kept[room_id][-SNAPSHOT_MESSAGES:], len(kept[room_id]) > SNAPSHOT_MESSAGES)
        for room_id in room_ids
    }


def sizes_behind(places: Collection[Place]) -> dict[Place, int]:
    """How many bytes of events each stream has behind the sequence that stands with it, as they are sent; one
    query. Places that nothing follows are left out."""
    if not places:
        return {}
    asked = [{"stream": stream, "after": after} for stream, after in places]
    with connection.cursor() as cursor:
        cursor.execute(_SIZES[connection.vendor], [msgspec.json.encode(asked).decode()])
        return {(stream, after): size for stream, after, size in cursor.fetchall()}


def messages_before(slug: str, person: str, before: int, limit: int) -> Latest:
    """Up to `limit` messages posted before the sequence `before`. Raises `CommandError`."""
    with one_snapshot():
        standing = standing_of(slug, person)
        rows = Message.objects.filter(room_id=standing.room_id, sequence__lt=before).order_by("-sequence")
        found = [_kept(message) for message in rows[: limit + 1]]
    return Latest(found[:limit][::-1], len(found) > limit)


def place_of_own_event(slug: str, person: str, sequence: int) -> Position:
    """Where the event is, for whoever may know who got it: moderators, and who wrote the message that was
    posted there. Raises `CommandError`."""
    with one_snapshot():
        standing = standing_of(slug, person)
        posted = Message.objects.filter(room_id=standing.room_id, sequence=sequence)
        sender = posted.values_list("sender", flat=True).first()
    moderates = standing.role in (Role.OWNER, Role.MODERATOR)
    if not 1 <= sequence <= standing.position.sequence or (sender is None and not moderates):
        raise CommandError("not_found", "there is no such message")
    if sender != person and not moderates:
        raise CommandError("not_allowed", "who got a message is for its sender and for moderators")
    return Position(standing.position.epoch, sequence)


def open_missing_streams(slugs: Iterable[str]) -> None:
    """Streams for rooms that have none: those that the release before opened while this one came."""
    for room in Room.objects.filter(slug__in=list(slugs)):
        open_stream(room_group(room.slug))


class NoStream(CommandError):
    """The room is there, its stream is not."""

    def __init__(self) -> None:
        super().__init__("busy", "this room is being opened", retry_after=1.0)


class _Row(NamedTuple):
    """One of `_STANDINGS`."""

    n: int
    room_id: int | None
    title: str
    public: bool | None
    epoch: int | None
    floor: int
    last_sequence: int
    role: str | None
    muted: bool | None
    last_read: int
    unread: int


def _why_not(slug: str, public: bool | None, role: str | None) -> CommandError | None:
    """Why somebody with this role may not be in the room; `public` is None where there is none."""
    if public is None or not is_there(public, Role(role or Role.VISITOR)):
        return no_room(slug)
    if role == Role.BANNED:
        return CommandError("not_allowed", "you are banned from this room")
    return None


def _standing(slug: str, row: _Row) -> Standing | CommandError:
    refusal = _why_not(slug, row.public, row.role)
    if refusal is not None:
        return refusal
    if row.room_id is None or row.epoch is None:
        return NoStream()
    return Standing(
        room_id=row.room_id,
        title=row.title,
        public=bool(row.public),
        role=Role(row.role or Role.VISITOR),
        muted=bool(row.muted),
        stream=StreamRead(row.epoch, row.floor, row.last_sequence, []),
        last_read=min(row.last_read, row.last_sequence) or None,
        unread=row.unread,
    )


def _kept(message: Message) -> KeptMessage:
    return KeptMessage(
        message_id=message.id,
        sequence=message.sequence,
        sender=Identity(message.sender, message.sender_name, message.sender_is_guest),
        text=message.text,
        sent_at=message.sent_at,
        edited_at=message.edited_at,
        deleted=message.deleted_at is not None,
        node=message.node,
    )


_PAIRS: Final = {
    "postgresql": "json_to_recordset(%s::json) AS p(n bigint, room varchar, person varchar, marked bigint)",
    "sqlite": "(SELECT value->>'n' AS n, value->>'room' AS room, value->>'person' AS person,"
    " value->>'marked' AS marked FROM json_each(%s)) AS p",
}

# By a mark that is written, or by one that waits.
_READ: Final = "CASE WHEN p.marked > COALESCE(m.last_read, 0) THEN p.marked ELSE COALESCE(m.last_read, 0) END"

_STANDINGS: Final = {
    vendor: f"""
SELECT p.n, r.id, r.title, r.public, s.epoch, s.floor, s.last_sequence, m.role, m.muted, {_READ},
    CASE WHEN {_READ} > 0 THEN (SELECT count(*) FROM (
        SELECT g.sender, g.deleted_at FROM chat_message g
        WHERE g.room_id = r.id AND g.sequence > {_READ} ORDER BY g.sequence LIMIT {UNREAD_LIMIT}
    ) behind WHERE behind.sender <> p.person AND behind.deleted_at IS NULL) ELSE 0 END
FROM {pairs}
LEFT JOIN chat_room r ON r.slug = p.room
LEFT JOIN journal_position s ON s.stream = 'room.' || r.slug
LEFT JOIN chat_membership m ON m.room_id = r.id AND m.person = p.person
"""  # noqa: S608
    for vendor, pairs in _PAIRS.items()
}

_ROLES: Final = {
    vendor: f"""
SELECT p.n, r.public, m.role FROM {pairs}
LEFT JOIN chat_room r ON r.slug = p.room
LEFT JOIN chat_membership m ON m.room_id = r.id AND m.person = p.person
"""  # noqa: S608
    for vendor, pairs in _PAIRS.items()
}

# Each event is measured once, from however many places it is missed: SQLite reads all of a text for that.
# LATERAL with LIMIT on PostgreSQL and CROSS JOIN on SQLite keep the planner from anything but the index.
_MEASURED: Final = """
WITH asked AS MATERIALIZED (SELECT stream, after FROM {places}),
measured AS MATERIALIZED (
    SELECT a.stream, e.sequence, {size} AS size
    FROM (SELECT stream, min(after) AS after FROM asked GROUP BY stream) AS a
    JOIN journal_position p ON p.stream = a.stream CROSS JOIN {events}
),
behind AS MATERIALIZED (
    SELECT stream, sequence - 1 AS after, sum(size + {place}) OVER (
        PARTITION BY stream ORDER BY sequence DESC
    ) AS size
    FROM measured
)
SELECT stream, after, size FROM behind WHERE (stream, after) IN (SELECT stream, after FROM asked)
"""
_SIZES: Final = {
    "postgresql": _MEASURED.format(
        places="json_to_recordset(%s::json) AS p(stream varchar, after bigint)",
        size="octet_length(e.payload)",
        events=f"""LATERAL (
            SELECT sequence, payload FROM journal_event
            WHERE position_id = p.id AND sequence > a.after ORDER BY sequence LIMIT {CATCH_UP_LIMIT}
        ) AS e""",  # noqa: S608
        place=PLACE_BYTES,
    ),
    "sqlite": _MEASURED.format(
        places="(SELECT value->>'stream' AS stream, value->>'after' AS after FROM json_each(%s)) AS p",
        size="length(CAST(e.payload AS BLOB))",
        events="journal_event e ON e.position_id = p.id AND e.sequence > a.after",
        place=PLACE_BYTES,
    ),
}

# One message more than wanted says whether there are earlier ones.
# On PostgreSQL LIMIT in a LATERAL keeps the planner from reading all that was ever said in these rooms.
_LATEST: Final = {
    "postgresql": f"""
SELECT g.* FROM chat_room r CROSS JOIN LATERAL (
    SELECT * FROM chat_message x WHERE x.room_id = r.id ORDER BY x.sequence DESC LIMIT {SNAPSHOT_MESSAGES + 1}
) AS g
WHERE r.id IN ({{rooms}}) ORDER BY g.room_id, g.sequence
""",  # noqa: S608
    "sqlite": f"""
SELECT g.* FROM (
    SELECT r.id, COALESCE((SELECT x.sequence FROM chat_message x WHERE x.room_id = r.id
        ORDER BY x.sequence DESC LIMIT 1 OFFSET {SNAPSHOT_MESSAGES}), 0) AS since
    FROM chat_room r WHERE r.id IN ({{rooms}})
) AS t
JOIN chat_message g ON g.room_id = t.id AND g.sequence >= t.since
ORDER BY g.room_id, g.sequence
""",  # noqa: S608
}
