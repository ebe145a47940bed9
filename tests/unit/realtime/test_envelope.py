import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime import envelope as envelope_module
from app.realtime.envelope import (
    FORMATS,
    KEY_LIMIT_BYTES,
    WRITES,
    Envelope,
    StreamEnvelope,
    UnknownEnvelope,
    pack,
    unpack,
)
from app.realtime.event import Delivery
from app.realtime.stream import StreamEvent
from tests.failure.planted.releases import LATER, VERSION

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

RECORDED = {
    1: {
        EXAMPLE: "01023132333435363738000000000000000704726f6f6d7b226576656e74223a202278227d",
        STREAM_EXAMPLE: "01003132333435363738000000000000000800100000000000000000000000000039"
        "41da13b86000000000037531327b226576656e74223a202278227d",
    }
}
"""What releases wrote on the bus, by version: the next one reads it."""


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
    data = bytes([VERSION]) + pack(EXAMPLE)[1:]
    with pytest.raises(UnknownEnvelope, match="version 2, expected 1"):
        unpack(data)


def test_an_unknown_delivery_class_is_refused() -> None:
    data = pack(EXAMPLE)[:1] + b"\x09" + pack(EXAMPLE)[2:]
    with pytest.raises(UnknownEnvelope):
        unpack(data)


def test_a_key_that_does_not_fit_is_refused_by_its_size() -> None:
    with pytest.raises(ValueError, match="255 bytes at most, this one has 256"):
        pack(EXAMPLE._replace(key="k" * 256))


def test_what_this_release_writes_it_reads_and_is_recorded() -> None:
    assert WRITES in FORMATS
    assert FORMATS.keys() == RECORDED.keys(), "a new version: record what it writes"


@pytest.mark.parametrize(
    ("version", "envelope"), [(version, one) for version, ones in RECORDED.items() for one in ones]
)
def test_what_releases_wrote_is_read_byte_for_byte(version: int, envelope: Envelope | StreamEnvelope) -> None:
    recorded = bytes.fromhex(RECORDED[version][envelope])
    assert unpack(recorded) == envelope
    assert FORMATS[version].pack(envelope) == recorded


@pytest.mark.parametrize("envelope", [EXAMPLE, STREAM_EXAMPLE])
def test_releases_that_follow_each_other_read_each_other(
    envelope: Envelope | StreamEnvelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = pack(envelope)
    monkeypatch.setitem(FORMATS, VERSION, LATER)  # the next release
    assert unpack(today) == envelope
    assert pack(envelope) == today, "it writes what the release of today reads"
    monkeypatch.setattr(envelope_module, "WRITES", VERSION)  # the one after that
    later = pack(envelope)
    assert later != today
    assert unpack(today) == unpack(later) == envelope
    monkeypatch.delitem(FORMATS, VERSION)  # back to today, which is one step too many
    with pytest.raises(UnknownEnvelope):
        unpack(later)
