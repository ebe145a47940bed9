"""Keys of entries: UUIDv7 (RFC 9562), whose first 48 bits say when they were drawn. Draws and reads, no more.

`uuid.uuid7` exists from Python 3.14 on; a library for ten lines is not worth its weight.
"""

import secrets
import time
from typing import Final
from uuid import UUID

KEY_HOURS: Final = 24
"""How long a command may be sent again: its key is refused when it is older."""

KEY_AHEAD_SECONDS: Final = 300
"""How far a client's clock may be ahead."""


def new_key(milliseconds: int | None = None) -> UUID:
    """A key drawn now, or at that Unix time."""
    if milliseconds is None:
        milliseconds = time.time_ns() // 1_000_000
    version, variant = 7 << 76, 2 << 62
    return UUID(
        int=milliseconds << 80 | version | secrets.randbits(12) << 64 | variant | secrets.randbits(62)
    )


def drawn_at(key: UUID) -> int | None:
    """The Unix time in milliseconds at which `key` was drawn; None: it is no UUIDv7."""
    return key.int >> 80 if key.version == 7 else None
