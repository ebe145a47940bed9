"""What accounts' events need to be stored: nothing. Only the system has something to say there."""

from typing import Final

from app.accounts.events import AccessChanged
from app.journal.entry import EventKind
from app.journal.kinds import register

ACCESS_CHANGED: Final = EventKind(
    AccessChanged.name,
    "SELECT n, 'not_allowed' AS code, 'only the system says so' AS message FROM incoming"
    " WHERE sender <> 'system'",
)


def register_kinds() -> None:
    """Make them known to the journal; again is harmless."""
    register(ACCESS_CHANGED)
