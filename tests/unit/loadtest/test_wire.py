"""The bench's own reading of the protocol, against the library's and the application's."""

import ast
import json
from pathlib import Path
from typing import ClassVar

from websockets.frames import Frame
from websockets.protocol import SERVER, Protocol

from app.realtime.event import Delivery, Event, encode_event
from loadtest.bench import wire

LOADTEST = Path(__file__).parents[3] / "loadtest"


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


def test_only_the_servers_import_the_application() -> None:
    importers = {
        path.relative_to(LOADTEST).parts[:2]
        for path in LOADTEST.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
        if name.split(".")[0] == "app"
    }
    assert importers == {("bench", "servers")}


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
