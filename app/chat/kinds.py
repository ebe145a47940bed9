"""What chat's events need to be stored, and what is written beside them: SQL, run under the stream's lock.

Who may write what is decided here and nowhere else: what a door finds out before can be out of date by then.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from app.chat.events import MemberChanged, MemberRemoved, MessageDeleted, MessageEdited, MessagePosted
from app.journal.entry import EventKind
from app.journal.kinds import BLANK_SUBJECT, register
from app.realtime.identity import GUEST


class _Rule(NamedTuple):
    """Refuses where `condition` holds. `i` is the entry, with the id of its `room`, whether that is `public`,
    and its sender's `role` and whether they are `muted` there. `message` goes on with the SQL `about`."""

    condition: str
    code: str
    message: str
    about: str = "''"


# A join with the memberships would read all of a room's while the planner has no statistics.
_STANDING_OF_INCOMING: Final = """
WITH standing AS MATERIALIZED (
    SELECT i.n, i.sender, i.subject, i.data, r.id AS room, r.public,
        (SELECT m.role FROM chat_membership m WHERE m.room_id = r.id AND m.person = i.sender) AS role,
        (SELECT m.muted FROM chat_membership m WHERE m.room_id = r.id AND m.person = i.sender) AS muted
    FROM incoming i LEFT JOIN chat_room r ON r.slug = substr(i.stream, 6)
)
"""
_MESSAGE: Final = "LEFT JOIN chat_message g ON g.id = i.subject AND g.room_id = i.room"
_TARGET: Final = "LEFT JOIN chat_membership t ON t.room_id = i.room AND t.person = i.data->>'person'"

NO_ROOM: Final = "there is no such room"
_NO_ROOM: Final = _Rule("i.room IS NULL", "not_found", NO_ROOM)
_STANDING: Final = [
    # To everybody else a room for members is not there.
    _Rule(
        "NOT i.public AND COALESCE(i.role, 'visitor') IN ('visitor', 'banned')",
        "not_found",
        NO_ROOM,
    ),
    _Rule("i.role = 'banned'", "not_allowed", "you are banned from this room"),
]
_MUTED: Final = _Rule("i.muted", "not_allowed", "you are muted in this room")
_NO_MESSAGE: Final = [
    _Rule("g.id IS NULL", "not_found", "there is no such message in this room"),
    _Rule("g.deleted_at IS NOT NULL", "not_found", "this message was deleted"),
]
_MAY_MODERATE: Final = "COALESCE(i.role, 'visitor') IN ('owner', 'moderator')"
_LEAVES: Final = "i.data->>'person' = i.sender AND NOT COALESCE(i.muted, FALSE)"


def _may_log_in(person: str) -> str:
    """Whether the id `person`, an SQL expression, is that of an account of today."""
    # Both databases know these words; only digits become a number, and `u07` is not `u7`.
    digits = f"substr({person}, 2)"
    return f"""COALESCE((
    SELECT a.is_active AND {person} = 'u' || a.id FROM accounts_user a WHERE a.id =
        CASE WHEN length({person}) BETWEEN 2 AND 19 AND substr({person}, 1, 1) = 'u'
            AND rtrim({digits}, '0123456789') = '' THEN CAST({digits} AS bigint) END
), FALSE)"""  # noqa: S608  # constants of this module


_PERSON: Final = "(i.data->>'person')"
_IS_A_GUEST: Final = f"substr({_PERSON}, 1, 1) = '{GUEST}'"
"""Nothing keeps a list of guests; no account's id begins like theirs."""
_NOBODY: Final = _Rule(
    f"t.person IS NULL AND NOT {_IS_A_GUEST} AND NOT {_may_log_in(_PERSON)}",
    "not_found",
    "there is nobody with the id ",
    _PERSON,
)
_LAST_OWNER: Final = f"""
t.role = 'owner' AND NOT EXISTS (
    SELECT 1 FROM chat_membership o WHERE o.room_id = i.room AND o.role = 'owner' AND o.person <> t.person
        AND {_may_log_in("o.person")}
)"""  # noqa: S608
"""A guest is gone with their session, so they are not another one."""
_OWNERS_ONLY: Final = "only an owner makes and unmakes owners and moderators"
_MODERATORS_ONLY: Final = "only a moderator or an owner may do this"
_ONE_OWNER: Final = "the last owner of a room stays its owner"


def _refusals(rules: Sequence[_Rule], more: str = "", always: Sequence[_Rule] = ()) -> str:
    """Refuses by the first rule whose condition holds; `system` is stopped only by `always`, and by a room
    that is not there."""
    bound = [_NO_ROOM, *always] + [
        rule._replace(condition=f"i.sender <> 'system' AND ({rule.condition})") for rule in rules
    ]
    codes = " ".join(f"WHEN {rule.condition} THEN '{rule.code}'" for rule in bound)
    messages = " ".join(f"WHEN {rule.condition} THEN '{rule.message}' || {rule.about}" for rule in bound)
    found = " OR ".join(f"({rule.condition})" for rule in bound)
    return f"""
{_STANDING_OF_INCOMING}
SELECT i.n, CASE {codes} END AS code, CASE {messages} END AS message
FROM standing i {more} WHERE {found}
"""  # noqa: S608  # constants of this module


_ROOM_OF_ACCEPTED: Final = "FROM accepted a JOIN chat_room r ON r.slug = substr(a.stream, 6)"
_BANNED: Final = "CAST(a.data->>'banned' AS boolean)"
_NAME: Final = "COALESCE(a.data->>'person_name', '')"
"""Events of the release before have none."""
_OR_CHANGE: Final = """
ON CONFLICT (room_id, person) DO UPDATE SET role = excluded.role, muted = excluded.muted,
    name = CASE WHEN excluded.name = '' THEN chat_membership.name ELSE excluded.name END
"""

KINDS: Final = [
    EventKind(
        MessagePosted.name,
        _refusals([*_STANDING, _MUTED]),
        [
            f"""
INSERT INTO chat_message
    (id, room_id, sequence, sender, sender_name, sender_is_guest, text, node, sent_at)
SELECT a.key, r.id, a.sequence, a.sender, a.data->'sender'->>'name',
    CAST(a.data->'sender'->>'guest' AS boolean), a.data->>'text', a.data->>'node', a.at {_ROOM_OF_ACCEPTED}
"""
        ],
        content=["text"],
    ),
    EventKind(
        MessageEdited.name,
        _refusals(
            [
                *_STANDING,
                _MUTED,
                *_NO_MESSAGE,
                _Rule("g.sender <> i.sender", "not_allowed", "only who wrote a message may edit it"),
            ],
            _MESSAGE,
        ),
        [
            """
UPDATE chat_message SET text = a.data->>'text', edited_at = a.at FROM accepted a
WHERE chat_message.id = a.subject
"""
        ],
        alone=True,
        content=["text"],
    ),
    EventKind(
        MessageDeleted.name,
        _refusals(
            [
                *_STANDING,
                *_NO_MESSAGE,
                _Rule(
                    f"g.sender <> i.sender AND NOT {_MAY_MODERATE}",
                    "not_allowed",
                    "only its writer, a moderator or an owner may delete a message",
                ),
            ],
            _MESSAGE,
        ),
        [
            """
UPDATE chat_message SET text = '', deleted_at = a.at FROM accepted a WHERE chat_message.id = a.subject
""",
            BLANK_SUBJECT,
        ],
        alone=True,
    ),
    EventKind(
        MemberChanged.name,
        _refusals(
            [
                *_STANDING,
                _Rule(f"NOT {_MAY_MODERATE}", "not_allowed", _MODERATORS_ONLY),
                _Rule(
                    "i.role <> 'owner' AND (COALESCE(t.role, '') IN ('owner', 'moderator')"
                    " OR COALESCE(i.data->>'role', '') IN ('owner', 'moderator'))",
                    "not_allowed",
                    _OWNERS_ONLY,
                ),
                _NOBODY,
                _Rule(
                    "i.data->>'role' = 'owner' AND COALESCE(t.role, '') <> 'owner'"
                    f" AND NOT {_may_log_in(_PERSON)}",
                    "not_allowed",
                    "only somebody with an account becomes an owner",
                ),
                _Rule(
                    f"COALESCE(i.data->>'role', '') <> 'owner' AND {_LAST_OWNER}", "not_allowed", _ONE_OWNER
                ),
            ],
            _TARGET,
            # It would end what somebody may hear, and removes nobody from the stream.
            [
                _Rule(
                    "NOT i.public AND i.data->>'role' IS NULL",
                    "invalid_data",
                    "a membership of this room is ended by removal",
                )
            ],
        ),
        [
            f"""
INSERT INTO chat_membership (room_id, person, name, role, muted, last_read)
SELECT r.id, a.data->>'person', {_NAME}, COALESCE(a.data->>'role', 'visitor'),
    CAST(a.data->>'muted' AS boolean), 0 {_ROOM_OF_ACCEPTED} WHERE r.id IS NOT NULL
{_OR_CHANGE}
"""
        ],
        alone=True,
        content=["person", "role", "muted"],
    ),
    EventKind(
        MemberRemoved.name,
        _refusals(
            [
                *_STANDING,
                _Rule(
                    f"NOT {_MAY_MODERATE} AND NOT ({_LEAVES} AND NOT CAST(i.data->>'banned' AS boolean))",
                    "not_allowed",
                    _MODERATORS_ONLY,
                ),
                _Rule(
                    "i.role <> 'owner' AND COALESCE(t.role, '') IN ('owner', 'moderator')"
                    " AND t.person <> i.sender",
                    "not_allowed",
                    _OWNERS_ONLY,
                ),
                _NOBODY._replace(condition=f"CAST(i.data->>'banned' AS boolean) AND {_NOBODY.condition}"),
                _Rule(_LAST_OWNER, "not_allowed", _ONE_OWNER),
            ],
            _TARGET,
        ),
        [
            f"""
INSERT INTO chat_membership (room_id, person, name, role, muted, last_read)
SELECT r.id, a.data->>'person', {_NAME}, 'banned', FALSE, 0 {_ROOM_OF_ACCEPTED} WHERE {_BANNED}
{_OR_CHANGE}
""",
            f"""
DELETE FROM chat_membership WHERE (room_id, person) IN (
    SELECT r.id, a.data->>'person' {_ROOM_OF_ACCEPTED} WHERE NOT {_BANNED}
)
""",  # noqa: S608
        ],
        alone=True,
        content=["person", "banned"],
    ),
]


def register_kinds() -> None:
    """Make them known to the journal; again is harmless."""
    for kind in KINDS:
        register(kind)
