"""The wire protocol's words, version 1: what a client may send and how an answer looks (docs/protocol.md).

Decodes and encodes, nothing else: no connection, no handler, no framework.
"""

import re
from collections.abc import Mapping
from math import ceil
from typing import Annotated, Any, Final

import msgspec

VERSION: Final = 1
SUBPROTOCOL: Final = "carillon.v1"
TICKET_PREFIX: Final = "carillon.ticket."
"""A ticket travels as a second subprotocol behind this prefix: never in the URL, which is logged."""

INVALID_FRAMES_ALLOWED: Final = 10
"""Per connection; one more and it is closed for good: such a client will not mend itself."""

DEPTH_LIMIT: Final = 32
"""Levels of lists and objects in a frame. Decoders recurse, and how deep they can depends on the Python."""

ERROR_CODES: Final[Mapping[str, str]] = {
    "invalid_frame": "the frame is not a command: not JSON, no id, an unknown field",
    "unknown_command": "no command of this name is known here",
    "invalid_data": "the command's data does not have the expected shape",
    "rate_limited": "too many commands: `retry_after` says when",
    "busy": "the node cannot take this now, nothing was stored: `retry_after` says when",
    "not_allowed": "you may not do this",
    "not_found": "there is no such thing",
    "too_many_rooms": "this connection is in as many rooms as it may be",
    "unknown": "it may be stored or not: send it again with the same key",
    "internal_error": "the node failed; it was logged",
}
"""Error code to what it means."""


CommandId = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
"""Chosen by the client: any number that JavaScript counts exactly."""


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks: `{"id": 1, "command": "chat.post_message", "data": {...}}`."""

    id: CommandId
    command: Annotated[str, msgspec.Meta(max_length=64)]
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Ping(msgspec.Struct, forbid_unknown_fields=True):
    """`seen`: of each stream that has news, the last sequence that came without a hole."""

    seen: Annotated[
        dict[str, Annotated[int, msgspec.Meta(ge=0, lt=2**53)]], msgspec.Meta(max_length=1000)
    ] = {}


class CommandError(Exception):
    """A command was refused; the connection stays. Handlers raise it, the consumer answers with it."""

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        if code not in ERROR_CODES:
            raise ValueError(f"unknown error code {code!r}, expected one of {', '.join(ERROR_CODES)}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class InvalidFrame(CommandError):
    """The frame is not a command; `command_id` is its id if that much could be read."""

    def __init__(self, message: str, command_id: int | None) -> None:
        super().__init__("invalid_frame", message)
        self.command_id = command_id


class _Identified(msgspec.Struct):
    """Anything with an id."""

    id: CommandId


_decoder: Final = msgspec.json.Decoder(Command)
_identified_decoder: Final = msgspec.json.Decoder(_Identified)
_encoder: Final = msgspec.json.Encoder()
# A string that does not end reaches to the end of the text, so that no byte is looked at twice.
_strings_and_brackets: Final = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_pairs_and_halves: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
NOT_UNICODE: Final = msgspec.Raw(b"")
"""In place of a command's data that has half of a surrogate pair; no handler's decoder takes it."""


def decode_command(text: bytes) -> Command:
    """The command in one text message. Raises `InvalidFrame`, which names what was wrong."""
    # Few frames have so many brackets at all; only those are looked at more closely.
    if text.count(b"[") + text.count(b"{") > DEPTH_LIMIT and _depth(text) > DEPTH_LIMIT:
        raise InvalidFrame(f"expected at most {DEPTH_LIMIT} levels of lists and objects", None)
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        if (halved := _halved(text)) is not None:
            return halved
        raise InvalidFrame(f"expected a command: {error}", _readable_id(text)) from error


def _halved(text: bytes) -> Command | None:
    """The command in a text that is none only because a string has half of a surrogate pair: `\\ud83d`."""
    whole = _pairs_and_halves.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)
    if whole == text:
        return None
    try:
        halved = _decoder.decode(whole)
    except (msgspec.DecodeError, RecursionError):
        return None
    halved.data = NOT_UNICODE
    return halved


def invalid_data(received: Command, error: Exception) -> CommandError:
    """What `received` is answered when its data could not be decoded."""
    what = "not valid Unicode: half of a surrogate pair" if received.data is NOT_UNICODE else error
    return CommandError("invalid_data", f"{received.command}: {what}")


def _depth(text: bytes) -> int:
    """How deep lists and objects go, in one pass whatever the text; brackets in strings do not count."""
    depth = deepest = 0
    for part in _strings_and_brackets.finditer(text):
        if part[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif part[0] in b"]}":
            depth -= 1
    return deepest


def _readable_id(text: bytes) -> int | None:
    try:
        return _identified_decoder.decode(text).id
    except (msgspec.DecodeError, RecursionError):
        return None


def encode_reply(command_id: int, data: Any) -> bytes:
    """The answer to a command that succeeded."""
    return _encoder.encode({"id": command_id, "reply": {} if data is None else data})


def encode_error(command_id: int | None, error: CommandError) -> bytes:
    """The answer to a command that was refused; `id` is null when the frame had none that could be read."""
    return _encoder.encode({"id": command_id, "error": _error(error.code, error.message, error.retry_after)})


def encode_refusal(code: str, message: str, retry_after: float | None = None) -> bytes:
    """The body of an HTTP response that refuses."""
    return _encoder.encode({"error": _error(code, message, retry_after)})


def _error(code: str, message: str, retry_after: float | None) -> dict[str, Any]:
    body: dict[str, Any] = {"code": code, "message": message}
    if retry_after is not None:
        body["retry_after"] = ceil(retry_after * 1000) / 1000  # never too early
    return body
