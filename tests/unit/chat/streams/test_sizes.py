"""How much somebody who comes back has missed: what that costs does not grow with who asks from where."""

from datetime import UTC, datetime

import pytest
from django.db import connection

from app.chat.events import room_group
from app.chat.selectors import sizes_behind
from app.chat.services import open_room
from app.journal.keys import new_key
from app.journal.models import StoredEvent, StreamPosition
from app.realtime.stream import PLACE_BYTES

pytestmark = pytest.mark.django_db(transaction=True)

ROOMS = ("second", "third")
EVENTS = 200


def payload(sequence: int) -> str:
    """Some bytes for each character, and none where the text was deleted."""
    return "" if sequence % 7 == 0 else "ä€" * sequence


@pytest.fixture(autouse=True)
def events(lobby: None) -> None:
    at = datetime.now(UTC)
    for slug in ROOMS:
        open_room(slug, slug)
        position = StreamPosition.objects.get(stream=room_group(slug))
        StoredEvent.objects.bulk_create(
            StoredEvent(
                position_id=position.pk,
                sequence=sequence,
                key=new_key(),
                sender="u1",
                kind="chat.message_posted",
                payload=payload(sequence),
                at=at,
            )
            for sequence in range(1, EVENTS + 1)
        )


def test_what_is_missed_is_measured_from_each_place() -> None:
    asked = {"second": (0, 6, 150, EVENTS - 1, EVENTS), "third": (42, EVENTS - 2)}
    places = [(room_group(slug), after) for slug, afters in asked.items() for after in afters]
    expected = {
        (stream, after): sum(
            len(payload(sequence).encode()) + PLACE_BYTES for sequence in range(after + 1, EVENTS + 1)
        )
        for stream, after in places
        if after < EVENTS
    }
    assert sizes_behind(places) == expected
    assert sizes_behind([]) == sizes_behind([("room.nowhere", 0)]) == {}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL knows a size without reading the text")
def test_each_event_is_read_once_from_however_many_places_it_is_missed() -> None:
    read: list[bytes] = []

    def measured(text: bytes) -> int:
        read.append(text)
        return len(text)

    connection.ensure_connection()
    connection.connection.create_function("length", 1, measured)
    try:
        assert len(sizes_behind([(room_group(slug), after) for slug in ROOMS for after in range(100)])) == 200
    finally:
        connection.connection.create_function("length", 1, None)
    assert len(read) == len(ROOMS) * EVENTS
