"""What a stream is to the engine: words only. Where its events are stored, `app.journal` knows.

A stream is a group whose events have a sequence without holes. Its name is its group's name.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

PLACE_BYTES: Final = 256
"""What an event takes beside its payload when it is sent, at most: its place in the stream, and the frame."""


class Position(msgspec.Struct, frozen=True):
    """A place in a stream: which life of it, and the sequence of the last event seen there."""

    epoch: int
    sequence: int


class StreamEvent(NamedTuple):
    """One stored event. `payload` is the encoded event without its place: `{"event": …, "data": …}`;
    empty once its text was deleted. `removes`: the id of the person whose subscription ends with it. `at`:
    when it was accepted, Unix time in seconds (0: not known). `local`: this node has just stored it."""

    epoch: int
    sequence: int
    payload: bytes
    removes: str = ""
    at: float = 0.0
    local: bool = False


class StreamRead(NamedTuple):
    """A stream as the database has it: its life, its bounds, and events after the sequence asked for, in
    order and without holes. `floor` is the highest sequence that was purged (0: none)."""

    epoch: int
    floor: int
    last_sequence: int
    events: list[StreamEvent]


class Reset(StrEnum):
    """Why a client cannot go on from its position."""

    EPOCH = "epoch"
    """The stream has another life: a backup was restored, or the room is another one of that name."""
    PURGED = "purged"
    """What came after the position is not kept any more."""
    AHEAD = "ahead"
    """The position was never reached in this life."""
    TOO_FAR = "too_far"
    """More events were missed than are caught up with one by one."""
    RIGHTS = "rights"
    """This person may not be there any more: whoever comes again is asked anew."""


class Unreadable(Exception):
    """The database does not answer now: no fault of ours, and nothing to be read in a traceback."""


ReadStreams = Callable[[Mapping[str, int], int, int], Awaitable[dict[str, StreamRead]]]
"""(stream → sequence, limit per stream, bytes of all payloads) → what the database has; a stream that does
not exist is left out. The bytes go to the next event of each stream, in the order of asking, then to the
second ones: who gets less than there is asks again. Always from the primary. Raises `Unreadable`."""


def reset_reason(position: Position, read: StreamRead, limit: int) -> Reset | None:
    """Why nobody can go on from `position`; None: the events after it follow."""
    if position.epoch != read.epoch:
        return Reset.EPOCH
    if position.sequence > read.last_sequence:
        return Reset.AHEAD
    if position.sequence < read.floor:
        return Reset.PURGED
    if read.last_sequence - position.sequence > limit:
        return Reset.TOO_FAR
    return None


def placed(stream: str, event: StreamEvent) -> bytes:
    """The event as clients get it: its place put before the stored bytes, the same on every node."""
    place = b'{"stream":%b,"sequence":%d,' % (msgspec.json.encode(stream), event.sequence)
    return place + (event.payload[1:] or b'"event":"stream.blanked","data":{}}')
