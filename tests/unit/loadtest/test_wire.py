"""The bench's own reading of the protocol, against the library's and the application's."""

import json
from typing import ClassVar

from websockets.frames import Frame
from websockets.protocol import SERVER, Protocol

from app.realtime.event import Delivery, Event, encode_event
from loadtest.bench import wire


class Ticked(Event):
    name: ClassVar[str] = "bench.ticked"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    number: int
    text: str


def test_an_event_is_100_bytes_of_json_and_the_frame_is_what_the_application_sends() -> None:
    number = wire.FIRST_NUMBER + 7
    assert len(wire.event(number)) == 100
    assert wire.frame(wire.event(number)) == encode_event(Ticked(number=number, text=wire.TEXT)).frame


def test_a_command_is_what_a_server_reads() -> None:
    server = Protocol(SERVER)
    server.receive_data(wire.command(3, "bench.publish", {"text": "x" * 200}))
    [frame] = server.events_received()
    assert isinstance(frame, Frame)
    assert json.loads(bytes(frame.data)) == {"id": 3, "command": "bench.publish", "data": {"text": "x" * 200}}


def test_frames_of_both_sizes_are_read_back() -> None:
    written = [b"short", b"x" * 125, b"x" * 126, b"x" * 4000]
    assert wire.payloads(b"".join(map(wire.frame, written))) == written
