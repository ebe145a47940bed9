"""The journal's writes beside the writer's: streams open and close, old events go, a restored backup is told.

Everything here runs in the caller's thread and transaction, through Django.
"""

import secrets
from typing import Final

from django.db import transaction

from app.journal.models import StoredEvent, StreamPosition
from app.realtime.stream import Position

EPOCH_LIMIT: Final = 2**53
"""JavaScript counts exactly up to here."""


def open_stream(name: str) -> Position:
    """The beginning of the stream `name`; if it is open already, where it is. In the caller's transaction."""
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
