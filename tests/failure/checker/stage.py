"""`python -m tests.failure.checker.stage '{…}'`: what operators do, by the application's own services.

Prints one line of JSON.
"""

import json
import os
import sys
from typing import Any

import django
from django.utils import timezone

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
django.setup()

from app.chat.models import Membership, Room  # noqa: E402  # models load after Django
from app.chat.services import open_room  # noqa: E402
from app.journal.services import remove_events  # noqa: E402


def open_rooms(slugs: list[str], members: dict[str, str] | None) -> None:
    """Rooms for everybody, or with `members` (person to role) for them only."""
    for slug in slugs:
        open_room(slug, slug)
    if members is not None:
        rooms = Room.objects.filter(slug__in=slugs)
        rooms.update(public=False)
        Membership.objects.bulk_create(
            Membership(room=room, person=person, role=role)
            for room in rooms
            for person, role in members.items()
        )


def main(what: dict[str, Any]) -> dict[str, Any]:
    """Do all that `what` says."""
    if "open_rooms" in what:
        open_rooms(what["open_rooms"], what.get("members"))
    for stream, sequence in what.get("purge", {}).items():
        remove_events(stream, sequence, timezone.now())  # also what is too young for a purge
    return {}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))  # noqa: T201
