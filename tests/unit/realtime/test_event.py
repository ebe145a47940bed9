from datetime import UTC, datetime
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from app.realtime.event import Delivery, Event, encode_event, encode_frame, text_frame


class PriceChanged(Event):
    name: ClassVar[str] = "prices.changed"
    delivery: ClassVar[Delivery] = Delivery.LATEST

    product: str
    cents: int
    at: datetime

    def coalesce_key(self) -> str:
        return f"{self.name} {self.product}"


class BellRung(Event):
    name: ClassVar[str] = "bell.rung"
    delivery: ClassVar[Delivery] = Delivery.DROPPABLE

    times: int


def parsed(frame: bytes) -> Frame:
    """What a client's parser makes of `frame`."""
    client = Protocol(CLIENT)
    client.receive_data(frame)
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    return event


def test_an_event_is_its_name_and_its_data() -> None:
    encoded = encode_event(PriceChanged("tea", 420, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
    assert msgspec.json.decode(encoded.payload) == {
        "event": "prices.changed",
        "data": {"product": "tea", "cents": 420, "at": "2026-01-02T03:04:05Z"},
    }


def test_events_of_one_key_supersede_each_other_and_only_latest_ones_have_a_key() -> None:
    now = datetime.now(UTC)
    assert encode_event(PriceChanged("tea", 1, now)).key == encode_event(PriceChanged("tea", 2, now)).key
    assert encode_event(PriceChanged("tea", 1, now)).key != encode_event(PriceChanged("milk", 1, now)).key
    assert encode_event(BellRung(3)).key == ""


def test_the_frame_of_an_event_carries_its_payload() -> None:
    encoded = encode_event(BellRung(3))
    assert parsed(encoded.frame).data == encoded.payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_client_reads_a_text_frame_of_any_length(size: int) -> None:
    frame = parsed(text_frame(b"x" * size))
    assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, b"x" * size)


@given(st.binary(max_size=1000))
def test_a_text_frame_is_the_one_the_library_would_make(payload: bytes) -> None:
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_other_frames_are_plain_json() -> None:
    assert msgspec.json.decode(encode_frame({"event": "hello", "data": {"protocol": 1}})) == {
        "event": "hello",
        "data": {"protocol": 1},
    }
