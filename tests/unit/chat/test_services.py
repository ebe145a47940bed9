"""What chat writes behind people's backs."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from app.chat.consumers import ChatTasks
from app.chat.events import room_group
from app.chat.models import Membership, Role, Room
from app.chat.read_markers import write_marks
from app.chat.services import open_room
from app.journal.models import StreamPosition
from tests.unit.chat.client import ADA

pytestmark = pytest.mark.django_db


@pytest.fixture
def room() -> Room:
    room, _ = open_room("attic", "Attic", opener=ADA)
    StreamPosition.objects.filter(stream=room_group("attic")).update(last_sequence=5)
    return room


def membership(room: Room, person: str, hours: float, role: Role = Role.VISITOR, muted: bool = False) -> None:
    """One that was used so long ago."""
    at = timezone.now() - timedelta(hours=hours)
    Membership.objects.create(room=room, person=person, role=role, muted=muted, last_read=1, used_at=at)


def people(room: Room) -> set[str]:
    return set(room.memberships.values_list("person", flat=True))


def test_the_workers_forget_how_far_guests_read_who_did_not_come_back(room: Room) -> None:
    kept = settings.JOURNAL_KEEP_HOURS
    membership(room, "gone", kept + 1)
    membership(room, "ghere", kept - 1)
    membership(room, "u2", kept + 1)
    membership(room, "gmember", kept + 1, Role.MEMBER)
    membership(room, "gbanned", kept + 1, Role.BANNED)
    membership(room, "gmuted", kept + 1, muted=True)
    ChatTasks().purge_guests({})
    assert people(room) == {"u1", "ghere", "u2", "gmember", "gbanned", "gmuted"}


def test_who_reads_on_is_not_forgotten(room: Room) -> None:
    membership(room, "gback", settings.JOURNAL_KEEP_HOURS + 1)
    write_marks({("attic", "gback"): 5, ("attic", "gnew"): 5})
    ChatTasks().purge_guests({})
    assert people(room) == {"u1", "gback", "gnew"}
