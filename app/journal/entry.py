"""What is appended to a stream, and what may become of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from app.journal.keys import KEY_AHEAD_SECONDS, KEY_HOURS, drawn_at
from app.realtime.node import bytes_at_once
from app.realtime.stream import PLACE_BYTES, Position


@dataclass(slots=True)
class Entry:
    """One event on its way into a stream.

    `key` is the command's own, UUIDv7: sent twice it is stored once. `sender` is a person's id, or
    `system`: never empty. `subject` is the key of the event that this one is about, if it is about one.
    """

    stream: str
    kind: str
    key: UUID
    sender: str
    payload: bytes
    subject: UUID | None = None
    removes: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was accepted: stored with it, so that what is said in the payload, written beside it and
    answered (also to the same key again, which has the first one's) is one moment."""


class Stored(NamedTuple):
    """The answer after the commit. `repeated`: it was stored before, and this is where."""

    position: Position
    at: datetime
    repeated: bool


class Refused(Exception):
    """Nothing was stored, and the same entry will be refused again. `code` is one of the protocol's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class NoSuchStream(Refused):
    """Nobody opened it, or it was closed."""

    def __init__(self) -> None:
        super().__init__("not_found", "there is no such stream")


def check_key(key: UUID, now: float) -> None:
    """Raises `Refused` for what nobody draws `now` (Unix time in seconds), nor drew within `KEY_HOURS`: the
    event of an older key may be purged, and would be stored again."""
    drawn = drawn_at(key)
    if drawn is None:
        raise Refused("invalid_data", "the key is no UUIDv7")
    age = now - drawn / 1000
    if age > KEY_HOURS * 3600:
        raise Refused("invalid_data", f"the key is older than {KEY_HOURS} hours")
    if age < -KEY_AHEAD_SECONDS:
        raise Refused("invalid_data", "the key was drawn in the future")


def check_size(payload: bytes) -> None:
    """Raises `Refused` for more than one connection is sent at once: nobody who missed it could go on."""
    limit = bytes_at_once() - PLACE_BYTES
    if len(payload) > limit:
        raise Refused(
            "invalid_data",
            f"an event has {limit} bytes at most (half of UNSENT_LIMIT_BYTES), this one has {len(payload)}",
        )


class Busy(Exception):
    """Nothing went to the database: try again after so many seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too much waits to be stored: try again in {retry_after:g} s")
        self.retry_after = retry_after


class OutcomeUnknown(Exception):
    """The database did not answer after the entry went there: send the same key again to know."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """What a feature says of one kind of event: who may store it, and what is written beside it.

    The fragments are SQL that PostgreSQL and SQLite both understand, run in the event's transaction under
    the stream's lock. `refusals` is a SELECT of `n, code, message` from `incoming`: those that are not to
    be stored. Each of `effects` is one INSERT, UPDATE or DELETE that reads `accepted`. Both relations have
    only this kind's rows, with `n, stream, position_id, key, sender, subject, removes, at` and `data`, the
    event's data as JSON (`data->>'text'`); `accepted` has `sequence` too.

    `content` names the fields of its data that a key stands for: who sends the key again with others is
    refused. What may differ from one try to the next (a time, a name) is none of them.
    """

    name: str
    refusals: str = ""
    effects: Sequence[str] = field(default=())
    content: Sequence[str] = field(default=())
    alone: bool = False
    """It changes what other events of its stream rest on: no batch holds another of that stream with it."""


SYSTEM: Final = "system"
"""The sender of what no person asked for."""
