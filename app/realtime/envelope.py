"""What a publish looks like on the bus: a fixed header, then the payload as it is.

The node's incarnation and a counter let a node drop its own echoes; the version lets two releases run side
by side, and says whether the event has a place in a stream. Nothing here is ever guessed: an envelope that
is not understood is skipped and counted.
"""

import struct
from typing import Final, NamedTuple

from app.realtime.event import Delivery
from app.realtime.stream import StreamEvent

VERSION: Final = 1
STREAM_VERSION: Final = 3
"""An event of a stream: always durable, delivered in the order of its sequence; with when it was accepted."""
KEY_LIMIT_BYTES: Final = 255

_STREAM: Final = bytes([STREAM_VERSION])
_header: Final = struct.Struct("!BB8sQB")
_stream_header: Final = struct.Struct("!B8sQQQdH")


class Envelope(NamedTuple):
    incarnation: bytes
    counter: int
    delivery: Delivery
    key: str
    payload: bytes


class StreamEnvelope(NamedTuple):
    incarnation: bytes
    counter: int
    event: StreamEvent


class UnknownEnvelope(Exception):
    """Another version's, or not an envelope at all."""


def pack(envelope: Envelope | StreamEnvelope) -> bytes:
    """The bytes on the bus. Raises `ValueError` for a key of more than 255 bytes."""
    if isinstance(envelope, StreamEnvelope):
        return _pack_stream(envelope)
    key = envelope.key.encode()
    if len(key) > KEY_LIMIT_BYTES:
        raise ValueError(f"a coalesce key has {KEY_LIMIT_BYTES} bytes at most, this one has {len(key)}")
    return (
        _header.pack(VERSION, envelope.delivery, envelope.incarnation, envelope.counter, len(key))
        + key
        + envelope.payload
    )


def unpack(data: bytes) -> Envelope | StreamEnvelope:
    """The envelope in `data`. Raises `UnknownEnvelope`."""
    try:
        if data[:1] == _STREAM:
            return _unpack_stream(data)
        version, delivery, incarnation, counter, key_size = _header.unpack_from(data)
        if version != VERSION:
            raise UnknownEnvelope(f"envelope version {version}, expected {VERSION} or {STREAM_VERSION}")
        key, payload = _parts(data, _header.size, key_size)
        return Envelope(incarnation, counter, Delivery(delivery), key, payload)
    except (struct.error, ValueError) as error:
        raise UnknownEnvelope(f"not an envelope: {error}") from error


def _pack_stream(envelope: StreamEnvelope) -> bytes:
    epoch, sequence, payload, removes, at, _ = envelope.event
    person = removes.encode()
    return (
        _stream_header.pack(
            STREAM_VERSION, envelope.incarnation, envelope.counter, epoch, sequence, at, len(person)
        )
        + person
        + payload
    )


def _unpack_stream(data: bytes) -> StreamEnvelope:
    _, incarnation, counter, epoch, sequence, at, size = _stream_header.unpack_from(data)
    removes, payload = _parts(data, _stream_header.size, size)
    return StreamEnvelope(incarnation, counter, StreamEvent(epoch, sequence, payload, removes, at))


def _parts(data: bytes, begin: int, size: int) -> tuple[str, bytes]:
    """The text of `size` bytes at `begin`, and what follows it."""
    end = begin + size
    if end > len(data):
        raise UnknownEnvelope(f"its text ends at byte {end}, it has {len(data)}")
    return data[begin:end].decode(), data[end:]
