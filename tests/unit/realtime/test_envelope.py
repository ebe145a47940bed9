import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.envelope import KEY_LIMIT_BYTES, VERSION, Envelope, UnknownEnvelope, pack, unpack
from app.realtime.event import Delivery

ENVELOPES = st.builds(
    Envelope,
    incarnation=st.binary(min_size=8, max_size=8),
    counter=st.integers(0, 2**64 - 1),
    delivery=st.sampled_from(Delivery),
    key=st.text(st.characters(codec="utf-8"), max_size=KEY_LIMIT_BYTES // 4),
    payload=st.binary(),
)
EXAMPLE = Envelope(b"12345678", 7, Delivery.LATEST, "room", b'{"event": "x"}')


@given(ENVELOPES)
def test_what_is_packed_is_unpacked_unchanged(envelope: Envelope) -> None:
    assert unpack(pack(envelope)) == envelope


@given(st.binary())
def test_foreign_bytes_are_understood_or_refused_and_never_anything_else(data: bytes) -> None:
    try:
        envelope = unpack(data)
    except UnknownEnvelope:
        return
    assert pack(envelope) == data


@pytest.mark.parametrize("size", range(len(pack(EXAMPLE)) - len(EXAMPLE.payload)))
def test_an_envelope_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(UnknownEnvelope):
        unpack(pack(EXAMPLE)[:size])


def test_another_version_is_refused_and_named() -> None:
    data = bytes([VERSION + 1]) + pack(EXAMPLE)[1:]
    with pytest.raises(UnknownEnvelope, match=f"version {VERSION + 1}, expected {VERSION}"):
        unpack(data)


def test_an_unknown_delivery_class_is_refused() -> None:
    data = pack(EXAMPLE)[:1] + b"\x09" + pack(EXAMPLE)[2:]
    with pytest.raises(UnknownEnvelope):
        unpack(data)


def test_a_key_that_does_not_fit_is_refused_by_its_size() -> None:
    with pytest.raises(ValueError, match="255 bytes at most, this one has 256"):
        pack(EXAMPLE._replace(key="k" * 256))
