"""Who takes part in a figure of durable posts: posters, and observers in rooms; each run is proven."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Final

import msgspec

from loadtest.bench import wire
from loadtest.bench.client import Crowd
from loadtest.bench.lines import Line, Lines, Refused
from loadtest.bench.posting import PATIENCE_SECONDS, Posting, Run, posts
from loadtest.bench.processes import Server
from loadtest.bench.proof import Room, heard, missing

AT_MOST_PER_SECOND: Final = 20_000
"""So many frames are made for each second of a run that is as fast as it can be."""
QUIET_SECONDS: Final = 0.1
JOINS: Final = 5
RETRY_SECONDS: Final = 1.0

_decode: Final = msgspec.json.Decoder().decode


class Gathering:
    """Open connections to one or more nodes. `rooms` have one observer on each node."""

    def __init__(self, posters: Mapping[Line, Server], rooms: Sequence[Room]) -> None:
        self.posters = posters
        self.rooms = rooms
        self._posting = Posting(list(posters), [line for room in rooms for line in room.observers])

    def close(self) -> None:
        """Listen no more."""
        self._posting.close()

    def run(self, seconds: float, per_second: float = 0.0, *, count: int = 0, proven: bool = True) -> Run:
        """Post for so long, or so many, to all rooms in turn; wait until observers got everything, in order.

        What they got stays until `forget`. Raises `WireError` if anything is missing, doubled or misplaced.
        """
        count = count or int(seconds * (per_second * 1.2 or AT_MOST_PER_SECOND)) + 1
        run = self._posting.run(posts([room.name for room in self.rooms], count), seconds, per_second)
        deadline = perf_counter() + PATIENCE_SECONDS
        self._posting.listen(QUIET_SECONDS)
        while proven and (lacking := missing(run.answers, self.rooms)):
            if perf_counter() > deadline:
                raise wire.WireError(lacking)
            self._posting.listen(QUIET_SECONDS)
        return run

    def forget(self) -> None:
        """The next run begins where the streams are now."""
        for room in self.rooms:
            room.position["sequence"] += len(heard(room.observers[0]))
            for line in room.observers:
                line.heard.clear()


@contextmanager
def gathered(servers: Sequence[Server], rooms: Sequence[str], posters: int) -> Iterator[Gathering]:
    """`posters` over all nodes, and on each an observer in each room."""
    try:
        with ExitStack() as exits:
            talking: dict[Line, Server] = {}
            watching: dict[str, list[Line]] = {name: [] for name in rooms}
            positions: dict[str, dict[str, int]] = {}
            for server in servers:
                crowd = exits.enter_context(Crowd())
                crowd.open(server.port, server.requests(server.kind.idle_path, posters // len(servers)))
                talking |= {Line(one): server for one in crowd.sockets}
                crowd = exits.enter_context(Crowd())
                crowd.open(server.port, server.requests(server.kind.idle_path, len(rooms)))
                lines = [Line(one) for one in crowd.sockets]
                for name, line, position in zip(rooms, lines, _joined(lines, rooms), strict=True):
                    watching[name].append(line)
                    positions[name] = position
            gathering = Gathering(talking, [Room(name, positions[name], watching[name]) for name in rooms])
            exits.callback(gathering.close)
            yield gathering
    except wire.WireError as error:
        tails = "\n".join(f"{server.kind.name}:\n{server.process.tail()}" for server in servers)
        raise wire.WireError(f"{error}\n{tails}") from error


def _joined(observers: Sequence[Line], rooms: Sequence[str]) -> list[dict[str, int]]:
    """The position of each room, which its observer joined. A node that is busy is asked again."""
    commands = [wire.command(1, "chat.join_room", {"room": name}) for name in rooms]
    lines = Lines(observers)
    try:
        for tries in range(1, JOINS + 1):
            try:
                answers = lines.ask(commands, PATIENCE_SECONDS)
            except Refused:
                if tries == JOINS:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                return [_decode(answer)["reply"]["position"] for [answer] in answers]
        raise AssertionError("unreachable")
    finally:
        lines.close()
