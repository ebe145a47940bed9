"""People who stay: whoever is let go or cut off comes back, and goes on where they were. They talk, too.

Raw sockets and epoll, as in `client`. Every frame is read, and of each person it is kept which posts they
heard; afterwards that is compared with what was acknowledged. Servers that give positions and servers
that do not are told apart by what they answer.
"""

import random
import re
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from time import perf_counter
from typing import Any, Final

import msgspec

from loadtest.bench import wire
from loadtest.bench.lines import DURABLE, REPLY
from loadtest.bench.posting import TEXT, Post

OPEN_PER_SECOND: Final = 300.0
"""At first: less than a stock server can take."""
RETRY_SECONDS: Final = (1.0, 8.0)
"""Who is not told when to come back tries within the first, then within twice as long, up to the last."""
LOOK_SECONDS: Final = 0.1
ASK_AGAIN_SECONDS: Final = 0.2
"""Where a refusal does not say."""

_MESSAGE: Final = b'{"event":"chat.message_posted"'
_RELEASED: Final = b'{"event":"connection.released"'
_RESET: Final = b'{"event":"stream.reset"'
_JOIN: Final = 2**40  # the id of a command that is no post
_AGAIN: Final = frozenset({"busy", "unknown", "rate_limited"})
_RETRY_AFTER: Final = re.compile(rb"\r\nRetry-After: (\d+)\r\n", re.IGNORECASE)

_decode: Final = msgspec.json.Decoder().decode
_buffer: Final = bytearray(2**20)
_view: Final = memoryview(_buffer)


@dataclass(eq=False, slots=True)
class Person:
    """One, with one room, and a connection while there is one."""

    number: int
    room: str
    request: bytes
    connection: socket.socket | None = None
    asked: bool = False
    """The request was sent."""
    opened: bool = False
    """It was answered, with a first frame."""
    here: bool = False
    """In the room, as far as this person was told."""
    rest: bytes = b""
    position: dict[str, int] | None = None
    """Where to go on from, if the server gives positions."""
    post: Post | None = None
    lost_at: float | None = None
    come_back: float | None = None
    """In how many seconds, as the server said that let them go."""
    tries: int = 0
    due: float = 0.0
    """When there is something to do next, of what was put off."""
    heard: list[int] = field(default_factory=list)
    """Numbers of posts, frame by frame."""


@dataclass(frozen=True)
class Heard:
    """What became of acknowledged posts at everybody in their rooms."""

    expected: int
    lost: int
    doubled: int
    misordered: int


class Returning:
    """People in `rooms`, one after the other, each with a request to come in by; all come to `port`."""

    def __init__(
        self, port: int, rooms: Sequence[str], requests: Iterable[bytes], posts: Iterator[Post]
    ) -> None:
        self.people = [
            Person(number, rooms[number % len(rooms)], request) for number, request in enumerate(requests)
        ]
        self.here = 0
        self.back: list[float] = []
        """Seconds from each loss to the room."""
        self.arrivals: list[tuple[float, str]] = []
        """When (`perf_counter`) who came in to which node."""
        self.refused = 0
        self.answers: dict[int, int] = {}
        """Acknowledged posts: number → sequence, 0 where there is none."""
        self.reply_seconds: list[float] = []
        self._port = port
        self._rooms: dict[int, str] = {}
        self._due_at: dict[int, float] = {}
        # An event's bytes are the same for everybody: to its number and sequence.
        self._posts: dict[bytes, tuple[int, int]] = {}
        self._by_number: dict[int, Person] = {}
        self._epoll = select.epoll()
        self._draw = random.Random(7)
        self._due: list[tuple[float, int]] = []
        for person in self.people:
            self._again(person, person.number / OPEN_PER_SECOND)
        self._made = posts
        self._next = next(posts)
        self._first = self._next.number  # of this run
        self._per_second = 0.0
        self._next_post = 0.0

    def close(self) -> None:
        """Hang up."""
        for person in self.people:
            if person.connection is not None:
                person.connection.close()
        self._epoll.close()

    def talk(self, per_second: float) -> None:
        """From now on, at random moments and by whoever is here. 0: only what is under way is still said."""
        self._per_second, self._next_post = per_second, perf_counter()

    @property
    def under_way(self) -> int:
        """Posts that nobody has acknowledged yet."""
        return len(self._due_at) - len(self.answers)

    def forget(self) -> None:
        """The next run begins here and now; positions stay."""
        for person in self.people:
            person.heard.clear()
        for kept in (self.back, self.arrivals, self.reply_seconds, self.answers, self._rooms, self._due_at):
            kept.clear()
        self._posts.clear()
        self.refused = 0
        self._first = self._next.number

    def go_on(self, until: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true within `seconds`. Raises `WireError` for what a server must never say."""
        deadline = perf_counter() + seconds
        while not until():
            if perf_counter() > deadline:
                return False
            self._turn()
        return True

    # What it comes to ------------------------------------------------------------------------------------

    def expected(self) -> Mapping[str, list[int]]:
        """Room → numbers of its acknowledged posts, in the order of their places. Raises `WireError` where
        answers and events do not name the same places, or these leave a hole."""
        rooms: dict[str, list[int]] = {person.room: [] for person in self.people}
        for number in sorted(self.answers, key=lambda one: (self.answers[one], one)):
            rooms[self._rooms[number]].append(number)
        for number, sequence in self._posts.values():
            if self.answers.get(number, sequence) != sequence:
                raise wire.WireError(
                    f"post {number} came as {sequence} and was stored as {self.answers[number]}"
                )
        for room, numbers in rooms.items():
            places = [self.answers[number] for number in numbers]
            if any(places) and places != list(range(places[0], places[0] + len(places))):
                raise wire.WireError(f"the answers leave a hole in {room}")
        return rooms

    def judged(self) -> Heard:
        """Message by message: each acknowledged post at each person of its room, once and in its place."""
        rooms = self.expected()
        lost = doubled = misordered = 0
        for person in self.people:
            expected = rooms[person.room]
            if person.heard == expected:
                continue
            got, rank = Counter(person.heard), {number: at for at, number in enumerate(expected)}
            if strange := got.keys() - rank.keys():
                raise wire.WireError(
                    f"somebody in {person.room} heard {len(strange)} posts that nobody stored"
                )
            lost += len(rank.keys() - got.keys())
            doubled += got.total() - len(got)
            misordered += sum(rank[one] > rank[other] for one, other in pairwise(person.heard))
        return Heard(sum(len(rooms[person.room]) for person in self.people), lost, doubled, misordered)

    def complete(self) -> bool:
        """Whether everybody has as many as were acknowledged: nothing more is to be waited for."""
        counts = Counter(self._rooms[number] for number in self.answers)
        return all(len(person.heard) >= counts[person.room] for person in self.people)

    # Coming and going ------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = perf_counter()
        while self._due and self._due[0][0] <= now:
            due, number = heappop(self._due)
            if due == self.people[number].due:  # else it was put off once more
                self._come(self.people[number])
        while self._per_second and self._next_post <= now and self._say_something():
            pass
        wake = min(self._due[0][0] if self._due else now + LOOK_SECONDS, now + LOOK_SECONDS)
        if self._per_second:
            wake = min(wake, self._next_post)
        for number, _ in self._epoll.poll(max(0.0, wake - perf_counter()), 4096):
            person = self._by_number[number]
            try:
                self._read(person)
            except BlockingIOError:
                continue
            except OSError:
                self._lose(person)

    def _come(self, person: Person) -> None:
        """Whatever is next for this person: connect, join, or say again what was not answered."""
        if person.here:
            self._post(person)
        elif person.opened:
            self._join(person)
        elif person.connection is None:
            one = person.connection = socket.socket()
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.connect_ex(("127.0.0.1", self._port))
            self._by_number[one.fileno()] = person
            self._epoll.register(one, select.EPOLLOUT)

    def _again(self, person: Person, seconds: float) -> None:
        person.due = perf_counter() + seconds
        heappush(self._due, (person.due, person.number))

    def _lose(self, person: Person) -> None:
        assert person.connection is not None
        del self._by_number[person.connection.fileno()]
        # Closing is not enough while a node is started: its process has this one, too, until it is one.
        self._epoll.unregister(person.connection)
        person.connection.close()
        if person.here:
            self.here -= 1
            person.lost_at = perf_counter()
        first, most = RETRY_SECONDS
        pause = self._draw.uniform(0, min(first * 2**person.tries, most))
        self._again(person, pause if person.come_back is None else person.come_back)
        person.tries += 1
        person.connection, person.rest, person.come_back = None, b"", None
        person.asked = person.opened = person.here = False

    def _join(self, person: Person) -> None:
        if person.position is None:
            frame = wire.command(_JOIN, "chat.join_room", {"room": person.room})
        else:
            frame = wire.command(_JOIN, "chat.resume", {"rooms": [{"room": person.room} | person.position]})
        self._send(person, frame)

    def _send(self, person: Person, frame: bytes) -> None:
        assert person.connection is not None
        with suppress(OSError):  # whoever reads next finds it lost
            person.connection.send(frame)

    # Reading ---------------------------------------------------------------------------------------------

    def _read(self, person: Person) -> None:
        one = person.connection
        assert one is not None
        if not person.asked:
            one.send(person.request)
            person.asked = True
            self._epoll.modify(one, select.EPOLLIN)
            return
        count = one.recv_into(_buffer)
        if not count:
            self._lose(person)
            return
        data, start = person.rest + bytes(_view[:count]), 0
        if not person.opened:
            start = self._let_in(person, data)
        while person.opened and (
            end := wire.frame_end(data, start, (wire.TEXT_FRAME, wire.PING, wire.CLOSE))
        ):
            kind, payload, start = data[start], wire.payload(data, start, end), end
            if kind == wire.TEXT_FRAME:
                self._take(person, payload)
                continue
            self._send(person, wire.answer(kind, payload))
            if kind == wire.CLOSE:
                self._lose(person)
                return
        if person.connection is not None:
            person.rest = data[start:]

    def _let_in(self, person: Person, data: bytes) -> int:
        """The upgrade's answer and hello; where what follows begins."""
        if data.startswith(b"HTTP/1.1 5") and b"\r\n\r\n" in data:  # of a stock node that ends, 500
            self.refused += 1
            told = _RETRY_AFTER.search(data)
            person.come_back = float(told[1]) if told else None
            self._lose(person)
            return 0
        end = wire.opened(data)
        if end:
            hello = _decode(wire.payload(data, data.find(b"\r\n\r\n") + 4, end))
            self.arrivals.append((perf_counter(), hello["data"]["node"]))
            person.opened = True
            self._join(person)
        return end

    def _take(self, person: Person, payload: bytes) -> None:
        known = self._posts.get(payload)
        if known is None:
            if payload.startswith(REPLY):
                self._answered(person, _decode(payload))
                return
            if payload.startswith(_RELEASED):
                person.come_back = _decode(payload)["data"]["retry_after"]
                return
            if payload.startswith(_RESET):
                raise wire.WireError(f"somebody has to start over: {payload!r}")
            if not payload.startswith((DURABLE, _MESSAGE)):
                return
            event = _decode(payload)
            text = event["data"]["text"]
            if text[10:] != TEXT[10:]:
                raise wire.WireError(f"somebody heard another text than was said: {payload!r}")
            known = self._posts[payload] = int(text[:10]), event.get("sequence", 0)
        number, sequence = known
        if number >= self._first:
            person.heard.append(number)
        if person.position is not None:
            person.position["sequence"] = sequence

    def _answered(self, person: Person, answer: dict[str, Any]) -> None:
        error = answer.get("error")
        if answer["id"] == _JOIN:
            [room] = answer["reply"].get("rooms", [answer["reply"]]) if error is None else [{}]
            error = error or room.get("error")
            if error is None:
                self._arrive(person, room)
                return
        elif person.post is None or answer["id"] != person.post.number:
            raise wire.WireError(f"nobody asked for {answer}")
        elif error is None:
            number, person.post = person.post.number, None
            self.answers[number] = answer["reply"].get("sequence", 0)
            self.reply_seconds.append(perf_counter() - self._due_at[number])
            return
        if error["code"] not in _AGAIN:
            raise wire.WireError(f"a command was refused: {answer}")
        self._again(person, error.get("retry_after", ASK_AGAIN_SECONDS))

    def _arrive(self, person: Person, reply: dict[str, Any]) -> None:
        if person.position is not None and not reply["resumed"]:
            raise wire.WireError(f"somebody has to start over: {reply}")
        if person.position is None and reply["position"]["epoch"]:
            person.position = reply["position"]
        self.here += 1
        person.here, person.tries = True, 0
        if person.lost_at is not None:
            self.back.append(perf_counter() - person.lost_at)
            person.lost_at = None
        if person.post is not None:
            self._post(person)

    # Talking ---------------------------------------------------------------------------------------------

    def _say_something(self) -> bool:
        """Whether there was somebody to say it; else it is late by one turn."""
        person = self._draw.choice(self.people)
        if not person.here or person.post is not None:
            return False
        post, self._next = self._next, next(self._made)
        person.post = post
        self._rooms[post.number], self._due_at[post.number] = post.room, self._next_post
        self._next_post += self._draw.expovariate(self._per_second)
        self._post(person)
        return True

    def _post(self, person: Person) -> None:
        if person.post is not None:
            self._send(person, person.post.frame)
