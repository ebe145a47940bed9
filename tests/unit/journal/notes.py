"""A feature of the tests' own: notes in streams, with its own tables. It touches nothing of the journal."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
from django.db import connection

from app.journal.entry import Entry, EventKind
from app.journal.keys import new_key
from app.journal.kinds import BLANK_SUBJECT, register

WRITTEN = register(
    EventKind(
        "notes.written",
        refusals="""
            SELECT i.n, 'not_allowed' AS code, 'you may not write here' AS message
            FROM incoming i JOIN notes_banned b ON b.stream = i.stream AND b.person = i.sender
        """,
        effects=[
            """
            INSERT INTO notes_note (id, stream, sequence, sender, text, at)
            SELECT key, stream, sequence, sender, data->>'text', at FROM accepted
            """
        ],
        content=["text"],
    )
)
ERASED = register(
    EventKind(
        "notes.erased",
        refusals="""
            SELECT i.n, 'not_found' AS code, 'there is no such note' AS message
            FROM incoming i LEFT JOIN notes_note o ON o.id = i.subject AND o.stream = i.stream
            WHERE o.id IS NULL
        """,
        effects=["UPDATE notes_note SET text = '' WHERE id IN (SELECT subject FROM accepted)", BLANK_SUBJECT],
        alone=True,
    )
)
BANNED = register(
    EventKind(
        "notes.banned",
        effects=["INSERT INTO notes_banned (stream, person) SELECT stream, removes FROM accepted"],
        alone=True,
    )
)
PLAIN = register(EventKind("notes.noticed"))


def make_tables() -> None:
    """In Django's database, of types that it would take itself."""
    types = {"postgresql": ("uuid", "timestamptz"), "sqlite": ("char(32)", "datetime")}
    uuid, moment = types[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS notes_note")
        cursor.execute("DROP TABLE IF EXISTS notes_banned")
        cursor.execute(
            f"CREATE TABLE notes_note (id {uuid} PRIMARY KEY, stream varchar(128) NOT NULL,"
            f" sequence bigint NOT NULL, sender varchar(128) NOT NULL,"
            f" text varchar(50) NOT NULL CHECK (length(text) <= 50), at {moment} NOT NULL)"
        )
        cursor.execute(
            "CREATE TABLE notes_banned (stream varchar(128) NOT NULL, person varchar(128) NOT NULL)"
        )


def drop_tables() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE notes_note")
        cursor.execute("DROP TABLE notes_banned")


def note(
    stream: str = "notes.a",
    text: str = "ding",
    *,
    sender: str = "u1",
    key: UUID | None = None,
    kind: EventKind = WRITTEN,
    subject: UUID | None = None,
    removes: str = "",
) -> Entry:
    payload = msgspec.json.encode({"event": kind.name, "data": {"text": text}})
    at = datetime.now(UTC)
    return Entry(stream, kind.name, key or new_key(), sender, payload, subject, removes, at)


def erased(entry: Entry, key: UUID | None = None) -> Entry:
    return note(entry.stream, "", kind=ERASED, subject=entry.key, key=key, sender=entry.sender)


def banned(person: str, stream: str = "notes.a") -> Entry:
    return note(stream, "", kind=BANNED, removes=person, sender="system")
