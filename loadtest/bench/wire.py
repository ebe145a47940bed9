"""The wire as this client knows it: upgrade requests, frames, and the events that every server must send.

Written from docs/protocol.md alone. All servers of a run send the same bytes, so all are held to the same.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

KEY: Final = "Y2FyaWxsb24tYmVuY2hlcw=="
ACCEPT: Final = b64encode(
    hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
)

FIRST_NUMBER: Final = 1_000_000
"""Events are numbered from here, so that all of them are of one size."""
TEXT: Final = "0123456789" * 4
"""Makes each event's JSON 100 bytes."""


TEXT_FRAME: Final = 0x81
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A
"""First bytes of frames in one piece."""


class WireError(Exception):
    """A server sent something else than it had to."""


def request(path: str, port: int, *, ticket: str = "", session: str = "") -> bytes:
    """An upgrade request, as a program with a ticket or a browser with a session cookie sends it."""
    subprotocols = "carillon.v1" + (f", carillon.ticket.{ticket}" if ticket else "")
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {subprotocols}",
    ]
    if session:
        lines += [f"Origin: http://127.0.0.1:{port}", f"Cookie: sessionid={session}"]
    return "\r\n".join([*lines, "", ""]).encode()


def event(number: int) -> bytes:
    """The JSON of one event."""
    return b'{"event":"bench.ticked","data":{"number":%d,"text":"%s"}}' % (number, TEXT.encode())


def frame(payload: bytes) -> bytes:
    """A server's text frame. Benchmark payloads are shorter than 64 KiB."""
    size = len(payload)
    return b"\x81" + (bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload


def command(number: int, name: str, data: dict[str, Any]) -> bytes:
    """A client's text frame with one command."""
    return masked(json.dumps({"id": number, "command": name, "data": data}).encode())


def masked(payload: bytes) -> bytes:
    """A client's text frame."""
    return _masked(TEXT_FRAME, payload)


def answer(kind: int, payload: bytes) -> bytes:
    """What a client owes a ping, or a close."""
    return _masked(PONG if kind == PING else CLOSE, payload)


def _masked(kind: int, payload: bytes) -> bytes:
    """The mask is nothing but zeros, which is a mask too."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((kind,)) + length + bytes(4) + payload


def opened(data: bytes) -> int:
    """How many bytes of `data` the upgrade's answer and the first frame take; 0 while they are incomplete.

    Raises `WireError` for a refusal.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    if not data.startswith(b"HTTP/1.1 101 ") or ACCEPT not in data[:end]:
        raise WireError(f"the upgrade was refused: {data[:200]!r}")
    return frame_end(data, end + 4)


def frame_end(data: bytes, start: int, kinds: Sequence[int] = (TEXT_FRAME,)) -> int:
    """Where the frame at `start` ends; 0 while it is incomplete. Raises `WireError` for another kind."""
    if len(data) < start + 2:
        return 0
    if data[start] not in kinds:
        raise WireError(f"expected a whole text frame, got {data[start : start + 20]!r}")
    size, begin = data[start + 1], start + 2
    if size == 126:
        size, begin = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
    end = begin + size
    return end if len(data) >= end else 0


def payloads(data: bytes) -> list[bytes]:
    """The payloads of the whole frames in `data`. Raises `WireError` if anything else is in it."""
    found, rest = whole_frames(data)
    if rest:
        raise WireError(f"the stream ends within a frame: {rest[:20]!r}")
    return found


def whole_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of the whole frames at the start of `data`, and what is left: the begin of the next."""
    found, start, size = [], 0, len(data)
    while start < size:
        end = frame_end(data, start)
        if not end:
            break
        found.append(payload(data, start, end))
        start = end
    return found, data[start:]


def payload(data: bytes, start: int, end: int) -> bytes:
    """Of the server's frame that is there."""
    return data[start + (4 if data[start + 1] == 126 else 2) : end]
