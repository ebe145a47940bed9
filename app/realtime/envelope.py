"""What a publish looks like on the bus: its format's version in the first byte, a fixed header, the payload.

The node's incarnation lets a node drop its own echoes. All that is on the bus but beacons is in an envelope,
and nothing here is ever guessed: one that is not understood is skipped and counted.

How a format changes: it is read for a release before it is written (docs/decisions/0011).
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from app.realtime.event import Delivery
from app.realtime.stream import StreamEvent

KEY_LIMIT_BYTES: Final = 255


class Envelope(NamedTuple):
    incarnation: bytes
    counter: int
    delivery: Delivery
    key: str
    payload: bytes


class StreamEnvelope(NamedTuple):
    """An event of a stream: always durable, delivered in the order of its sequence."""

    incarnation: bytes
    counter: int
    event: StreamEvent


class UnknownEnvelope(Exception):
    """Another version's, or not an envelope at all."""


class Format(NamedTuple):
    """One version; its bytes begin with that. `unpack` may raise `UnknownEnvelope`, `struct.error`, and
    `ValueError`."""

    pack: Callable[[Envelope | StreamEnvelope], bytes]
    unpack: Callable[[bytes], Envelope | StreamEnvelope]


def pack(envelope: Envelope | StreamEnvelope) -> bytes:
    """The bytes on the bus. Raises `ValueError` for a key of more than 255 bytes."""
    return FORMATS[WRITES].pack(envelope)


def unpack(data: bytes) -> Envelope | StreamEnvelope:
    """The envelope in `data`. Raises `UnknownEnvelope`."""
    known = FORMATS.get(data[0]) if data else None
    if known is None:
        expected = " or ".join(map(str, FORMATS))
        raise UnknownEnvelope(f"envelope version {data[0] if data else 'none'}, expected {expected}")
    try:
        return known.unpack(data)
    except (struct.error, ValueError) as error:
        raise UnknownEnvelope(f"not an envelope: {error}") from error


# --- Version 1: the second byte is the delivery class, or says that the event has a place in a stream -----

_IN_STREAM: Final = b"\0"
_header: Final = struct.Struct("!BB8sQB")
_stream_header: Final = struct.Struct("!Bc8sQQQdH")


def _pack_1(envelope: Envelope | StreamEnvelope) -> bytes:
    if isinstance(envelope, StreamEnvelope):
        incarnation, counter, (epoch, sequence, payload, removes, at, _) = envelope
        person = removes.encode()
        header = _stream_header.pack(1, _IN_STREAM, incarnation, counter, epoch, sequence, at, len(person))
        return header + person + payload
    key = envelope.key.encode()
    if len(key) > KEY_LIMIT_BYTES:
        raise ValueError(f"a coalesce key has {KEY_LIMIT_BYTES} bytes at most, this one has {len(key)}")
    header = _header.pack(1, envelope.delivery, envelope.incarnation, envelope.counter, len(key))
    return header + key + envelope.payload


def _unpack_1(data: bytes) -> Envelope | StreamEnvelope:
    if data[1:2] == _IN_STREAM:
        _, _, incarnation, counter, epoch, sequence, at, size = _stream_header.unpack_from(data)
        removes, payload = _parts(data, _stream_header.size, size)
        return StreamEnvelope(incarnation, counter, StreamEvent(epoch, sequence, payload, removes, at))
    _, delivery, incarnation, counter, size = _header.unpack_from(data)
    key, payload = _parts(data, _header.size, size)
    return Envelope(incarnation, counter, Delivery(delivery), key, payload)


def _parts(data: bytes, begin: int, size: int) -> tuple[str, bytes]:
    """The text of `size` bytes at `begin`, and what follows it."""
    end = begin + size
    if end > len(data):
        raise UnknownEnvelope(f"its text ends at byte {end}, it has {len(data)}")
    return data[begin:end].decode(), data[end:]


FORMATS: Final[dict[int, Format]] = {1: Format(_pack_1, _unpack_1)}
"""What this release reads, by version: what it writes itself, what the release before wrote, and what the
next one is to write."""
WRITES: int = 1
"""What it writes: nothing that the release before does not read."""
