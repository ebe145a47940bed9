import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.envelope import (
    KEY_LIMIT_BYTES,
    STREAM_VERSION,
    Envelope,
    StreamEnvelope,
    UnknownEnvelope,
    pack,
    unpack,
)
from app.realtime.event import Delivery
from app.realtime.stream import StreamEvent

ENVELOPES = st.builds(
    Envelope,
    incarnation=st.binary(min_size=8, max_size=8),
    counter=st.integers(0, 2**64 - 1),
    delivery=st.sampled_from(Delivery),
    key=st.text(st.characters(codec="utf-8"), max_size=KEY_LIMIT_BYTES // 4),
    payload=st.binary(),
)
STREAM_ENVELOPES = st.builds(
    StreamEnvelope,
    incarnation=st.binary(min_size=8, max_size=8),
    counter=st.integers(0, 2**64 - 1),
    event=st.builds(
        StreamEvent,
        epoch=st.integers(1, 2**53),
        sequence=st.integers(1, 2**53),
        payload=st.binary(),
        removes=st.text(st.characters(codec="utf-8"), max_size=128),
        at=st.floats(0, 2**40),
        local=st.just(False),  # whoever reads it from the bus has not stored it
    ),
)
STREAM_EXAMPLE = StreamEnvelope(b"12345678", 8, StreamEvent(2**52, 57, b'{"event": "x"}', "u12", 1.75e9))
EXAMPLE = Envelope(b"12345678", 7, Delivery.LATEST, "room", b'{"event": "x"}')


@given(ENVELOPES | STREAM_ENVELOPES)
def test_what_is_packed_is_unpacked_unchanged(envelope: Envelope | StreamEnvelope) -> None:
    assert unpack(pack(envelope)) == envelope


@given(st.binary())
def test_foreign_bytes_are_understood_or_refused_and_never_anything_else(data: bytes) -> None:
    try:
        envelope = unpack(data)
    except UnknownEnvelope:
        return
    assert pack(envelope) == data


@pytest.mark.parametrize(
    ("envelope", "size"),
    [(EXAMPLE, size) for size in range(len(pack(EXAMPLE)) - len(EXAMPLE.payload))]
    + [
        (STREAM_EXAMPLE, size)
        for size in range(len(pack(STREAM_EXAMPLE)) - len(STREAM_EXAMPLE.event.payload))
    ],
)
def test_an_envelope_that_is_cut_off_is_refused(envelope: Envelope | StreamEnvelope, size: int) -> None:
    with pytest.raises(UnknownEnvelope):
        unpack(pack(envelope)[:size])


def test_another_version_is_refused_and_named() -> None:
    data = bytes([STREAM_VERSION + 1]) + pack(EXAMPLE)[1:]
    with pytest.raises(UnknownEnvelope, match="version 4, expected 1 or 3"):
        unpack(data)


def test_an_unknown_delivery_class_is_refused() -> None:
    data = pack(EXAMPLE)[:1] + b"\x09" + pack(EXAMPLE)[2:]
    with pytest.raises(UnknownEnvelope):
        unpack(data)


def test_a_key_that_does_not_fit_is_refused_by_its_size() -> None:
    with pytest.raises(ValueError, match="255 bytes at most, this one has 256"):
        pack(EXAMPLE._replace(key="k" * 256))
