"""What a publish looks like on the bus: a fixed header, then the payload as it is.

The node's incarnation and a counter let a node drop its own echoes; the version lets two releases run side
by side. Nothing here is ever guessed: an envelope that is not understood is skipped and counted.
"""

import struct
from typing import Final, NamedTuple

from app.realtime.event import Delivery

VERSION: Final = 1
KEY_LIMIT_BYTES: Final = 255

_header: Final = struct.Struct("!BB8sQB")


class Envelope(NamedTuple):
    incarnation: bytes
    counter: int
    delivery: Delivery
    key: str
    payload: bytes


class UnknownEnvelope(Exception):
    """Another version's, or not an envelope at all."""


def pack(envelope: Envelope) -> bytes:
    """The bytes on the bus. Raises `ValueError` for a key of more than 255 bytes."""
    key = envelope.key.encode()
    if len(key) > KEY_LIMIT_BYTES:
        raise ValueError(f"a coalesce key has {KEY_LIMIT_BYTES} bytes at most, this one has {len(key)}")
    return (
        _header.pack(VERSION, envelope.delivery, envelope.incarnation, envelope.counter, len(key))
        + key
        + envelope.payload
    )


def unpack(data: bytes) -> Envelope:
    """The envelope in `data`. Raises `UnknownEnvelope`."""
    try:
        version, delivery, incarnation, counter, key_size = _header.unpack_from(data)
        if version != VERSION:
            raise UnknownEnvelope(f"envelope version {version}, expected {VERSION}")
        start = _header.size + key_size
        if start > len(data):
            raise UnknownEnvelope(f"its key ends at byte {start}, it has {len(data)}")
        return Envelope(
            incarnation, counter, Delivery(delivery), data[_header.size : start].decode(), data[start:]
        )
    except (struct.error, ValueError) as error:
        raise UnknownEnvelope(f"not an envelope: {error}") from error
