"""What any Django code does to rooms and memberships past the rooms' streams is told to the nodes.

Only told: who may be where is read from the database. `queryset.update` and SQL come by no signal; the nodes'
next round finds what they did.
"""

from collections.abc import Iterable
from typing import Any

from app.accounts.services import access_changed
from app.chat.events import room_group
from app.chat.models import rights_lost


def connect_signals() -> None:
    """From here on; again is harmless."""
    rights_lost.connect(_rights_lost, dispatch_uid="rights in rooms")


def _rights_lost(slugs: Iterable[str], **_: Any) -> None:
    for slug in slugs:
        access_changed(room_group(slug))
