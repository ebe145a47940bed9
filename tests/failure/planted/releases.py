"""Releases that are not made yet, to be planted into nodes: the next one, the one after, and a distant one.

Version 2 of the bus' format is made up here: its envelopes have a field more than those of today. How
releases come to speak it: docs/decisions/0011.
"""

import struct
import time
from typing import Final

from app.realtime import envelope
from app.realtime.envelope import FORMATS, Envelope, Format, StreamEnvelope

VERSION: Final = 2
DISTANT: Final = 101
_said_at: Final = struct.Struct("!d")


def _pack(said: Envelope | StreamEnvelope) -> bytes:
    return bytes([VERSION]) + _said_at.pack(time.time()) + TODAY.pack(said)[1:]


def _unpack(data: bytes) -> Envelope | StreamEnvelope:
    _said_at.unpack_from(data, 1)
    return TODAY.unpack(b"\1" + data[1 + _said_at.size :])


TODAY: Final = FORMATS[1]
LATER: Final = Format(_pack, _unpack)


def next_release() -> None:
    """The next release: it reads what is new, and writes what the release of today reads."""
    FORMATS[VERSION] = LATER


def release_after_next() -> None:
    """The one after that writes it: everybody who is there in a roll reads it."""
    next_release()
    envelope.WRITES = VERSION


def speaks_another_version() -> None:
    """A release far from today's: neither reads anything that the other writes."""
    FORMATS.clear()
    FORMATS[DISTANT] = Format(
        lambda said: bytes([DISTANT]) + TODAY.pack(said)[1:], lambda data: TODAY.unpack(b"\1" + data[1:])
    )
    envelope.WRITES = DISTANT


def writes_at_once() -> None:
    """A release writes whatever it reads: the new version of a format, too, that nobody else reads yet."""
    envelope.WRITES = max(FORMATS)
