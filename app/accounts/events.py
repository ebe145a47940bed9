"""What nodes tell each other of accounts: no client gets it."""

from typing import ClassVar, Final
from zlib import crc32

from app.realtime.event import Delivery, Event

ACCESS_CHANGES: Final = "accounts"
"""The stream of all such changes."""


class AccessChanged(Event):
    """Somebody may do less than before, perhaps. `subject` says whom or what to look at again: it is a hint
    where to ask the database, and grants and ends nothing by itself."""

    name: ClassVar[str] = "accounts.access_changed"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    subject: str


def account_subject(person: str) -> str:
    """Somebody's account, by the person's id."""
    return f"account.{person}"


def session_subject(session_key: str) -> str:
    """A session. The key is a secret, and 32 bits of a checksum tell few others to be looked at, too."""
    return f"session.{crc32(session_key.encode()):08x}"
