"""The journal's writes beside the writer's: streams open and close, old events go, foreign code publishes.

Everything here runs in the caller's thread and transaction.
"""

import re
import secrets
import time
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import BigIntegerField, F, QuerySet
from django.db.models.functions import Cast, Random
from django.utils import timezone

from app.journal import kinds, nudges
from app.journal.entry import SYSTEM, Refused, check_key, check_size
from app.journal.keys import KEY_HOURS, new_key
from app.journal.models import NAME_LIMIT, OutboxEntry, StoredEvent, StreamPosition
from app.realtime.event import Event, encode_event
from app.realtime.stream import Position

EPOCH_LIMIT: Final = 2**53
"""JavaScript counts exactly up to here."""

KEPT_HOURS: Final = KEY_HOURS + 1
"""Events are kept for so long at least: without its event, a key that is sent again would be stored again."""

NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""As JSON writes it. PostgreSQL stores none."""

PURGE_ENTRIES: Final = 1000
"""Events of one transaction: a stream waits for it."""


def open_stream(name: str) -> Position:
    """The beginning of the stream `name`; if it is open already, where it is."""
    kept, _ = StreamPosition.objects.get_or_create(
        stream=name, defaults={"epoch": 1 + secrets.randbelow(EPOCH_LIMIT - 1)}
    )
    return Position(kept.epoch, kept.last_sequence)


@transaction.atomic
def close_stream(name: str) -> None:
    """Forget the stream and its events; who opens one of that name begins another life of it."""
    for position in StreamPosition.objects.select_for_update().filter(stream=name):
        StoredEvent.objects.filter(position=position).delete()
        position.delete()


def publish_on_commit(
    stream: str,
    event: Event,
    *,
    sender: str = SYSTEM,
    key: UUID | None = None,
    subject: UUID | None = None,
    removes: str = "",
) -> UUID:
    """Put `event` into `stream` if and when the caller's transaction commits; its key.

    It has no place there yet, so nobody waits for the caller's transaction; a writer gives it one within a
    second. Events of one transaction keep their order. Raises `TypeError` for a kind that nobody registered,
    and `Refused` for what no stream could take.
    """
    kinds.kind(event.name)
    for name, value in {"stream": stream, "sender": sender, "removes": removes}.items():
        _check_name(name, value, empty=name == "removes")
    try:
        payload = encode_event(event).payload
    except UnicodeEncodeError:
        raise Refused("invalid_data", "no text of an event has half of a surrogate pair") from None
    check_size(payload)
    if key is not None:
        check_key(key, time.time())
    if NUL.search(payload):
        raise Refused("invalid_data", "no text of an event has a NUL character")
    entry = OutboxEntry.objects.create(
        stream=stream,
        kind=event.name,
        key=key or new_key(),
        sender=sender,
        subject=subject,
        removes=removes,
        payload=payload.decode(),
        created_at=timezone.now(),
    )
    transaction.on_commit(nudges.nudge, robust=True)
    return entry.key


def _check_name(name: str, value: str, *, empty: bool) -> None:
    """Raises `Refused` before PostgreSQL does, which would break the caller's transaction."""
    if not value and not empty:
        raise Refused("invalid_data", f"{name} is empty")
    if len(value) > NAME_LIMIT:
        raise Refused("invalid_data", f"{name} has {NAME_LIMIT} characters at most")
    if "\0" in value:
        raise Refused("invalid_data", f"{name} has a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("invalid_data", f"{name} has half of a surrogate pair") from None


def try_again(refused: QuerySet[OutboxEntry]) -> None:
    """What was refused is looked at once more, as if it had been published now."""
    refused.update(failure="")
    transaction.on_commit(nudges.nudge, robust=True)


def purge(stream: str, up_to_sequence: int) -> int:
    """Remove the stream's events up to that one, but none younger than `KEPT_HOURS`; how many it were."""
    return remove_events(stream, up_to_sequence, timezone.now() - timedelta(hours=KEPT_HOURS))


def purge_old(keep_hours: float) -> int:
    """Remove what is older, of all streams; how many events it were. At least `KEPT_HOURS` are kept."""
    older_than = timezone.now() - timedelta(hours=max(keep_hours, KEPT_HOURS))
    names = StreamPosition.objects.filter(floor__lt=F("last_sequence")).values_list("stream", flat=True)
    return sum(remove_events(name, EPOCH_LIMIT, older_than) for name in list(names))


def remove_events(stream: str, up_to_sequence: int, older_than: datetime) -> int:
    """Remove events up to that one and that moment, whatever it does to keys that are sent again."""
    removed = 0
    while count := _remove_some(stream, up_to_sequence, older_than):
        removed += count
    return removed


@transaction.atomic
def _remove_some(stream: str, up_to_sequence: int, older_than: datetime) -> int:
    """The floor and the events go in one transaction, under the stream's lock."""
    position = StreamPosition.objects.select_for_update(no_key=True).filter(stream=stream).first()
    events = StoredEvent.objects.filter(position=position, sequence__lte=up_to_sequence)
    oldest = events.order_by("sequence").values_list("sequence", "at")[:PURGE_ENTRIES]
    old = [sequence for sequence, _ in takewhile(lambda event: event[1] < older_than, oldest)]
    if position is None or not old:
        return 0
    StreamPosition.objects.filter(pk=position.pk).update(floor=old[-1])
    StoredEvent.objects.filter(position=position, sequence__lte=old[-1]).delete()
    return len(old)


@transaction.atomic
def renew_epochs() -> int:
    """Begin another life of every stream; how many there are. After a backup was restored: positions that
    clients have seen since are not in it, and will be given to other events."""
    # All locks in the writers' order, so that nobody waits in a circle.
    streams = len(StreamPosition.objects.select_for_update(no_key=True).order_by("id").values_list("id"))
    StreamPosition.objects.update(epoch=1 + Cast(Random() * (EPOCH_LIMIT - 2), BigIntegerField()))
    return streams
