"""Posts from many connections, one under way on each, and what the rooms hear of them.

Every frame is made before the clock starts, and what comes back is only kept while it runs. Afterwards each
answer is compared with each event: a server that loses, repeats or misplaces anything has no figure.
"""

import gc
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from itertools import islice
from time import perf_counter, process_time, time_ns
from typing import Final, NamedTuple

from loadtest.bench import wire
from loadtest.bench.lines import REPLY, Line, Lines

TEXT: Final = "0123456789" * 10
PATIENCE_SECONDS: Final = 30.0


class Post(NamedTuple):
    """One that is to be written; `number` is its command's id."""

    number: int
    room: str
    frame: bytes


class Answer(NamedTuple):
    """One that was acknowledged. `since` and `at` are by `perf_counter`: written (or due), answered."""

    post: Post
    line: Line
    since: float
    at: float
    payload: bytes


@dataclass(frozen=True)
class Run:
    """What some seconds of posting gave."""

    seconds: float
    answers: list[Answer]
    cpu_share: float
    """Of one core, taken by this generator."""

    @property
    def per_second(self) -> float:
        """Acknowledged posts."""
        return len(self.answers) / self.seconds

    def milliseconds(self, share: float) -> float:
        """Within which so much of all replies came."""
        return percentile([answer.at - answer.since for answer in self.answers], share)


def percentile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds; `share` is below 1."""
    return sorted(seconds)[int(share * len(seconds))] * 1000


def posts(rooms: Sequence[str], count: int) -> deque[Post]:
    """The first `count` of `endless`, made."""
    return deque(islice(endless(rooms), count))


def endless(rooms: Sequence[str]) -> Iterator[Post]:
    """Posts to one room after the other. Their keys are UUIDv7 of now, in the order of posting; their texts
    begin with the number."""
    draw = random.Random()
    now = time_ns() // 1_000_000
    for number in count_from(1):
        room = rooms[number % len(rooms)]
        stamp = f"{now + number // 16:012x}"
        key = (
            f"{stamp[:8]}-{stamp[8:]}-7{draw.getrandbits(12):03x}"
            f"-{0x8000 | draw.getrandbits(14):04x}-{draw.getrandbits(48):012x}"
        )
        payload = (
            f'{{"id":{number},"command":"chat.post_message",'
            f'"data":{{"room":"{room}","key":"{key}","text":"{number:010}{TEXT[10:]}"}}}}'
        )
        yield Post(number, room, wire.masked(payload.encode()))


class Posting:
    """Posters, who hear nothing but answers, and observers, who say nothing."""

    def __init__(self, posters: Sequence[Line], observers: Sequence[Line]) -> None:
        self._posters = posters
        self._observers = set(observers)
        self._lines = Lines([*posters, *observers])

    def close(self) -> None:
        """Listen no more; the connections stay."""
        self._lines.close()

    def run(self, waiting: deque[Post], seconds: float, per_second: float = 0.0) -> Run:
        """Post for so long: as fast as answers come, or at random moments, `per_second` on average.

        What is due while no connection is free waits, and its answer counts from when it was due. Raises
        `WireError` for a refusal, and when the last answers do not come.
        """
        draw = random.Random(5)
        idle = deque(self._posters)
        under_way: dict[Line, tuple[Post, float]] = {}
        answers: list[Answer] = []
        observers, ready = self._observers, self._lines.ready
        gc.collect()
        gc.freeze()  # frames by the ten thousand: no collection shall look at them again and again
        cpu, started = process_time(), perf_counter()
        stop, due = started + seconds, started
        while True:
            now = perf_counter()
            while idle and waiting and (due if per_second else now) < stop and due <= now:
                line, post = idle.popleft(), waiting.popleft()
                line.send(post.frame)
                under_way[line] = post, due if per_second else now
                if per_second:
                    due += draw.expovariate(per_second)
            open_ended = waiting and (now < stop)
            if not under_way and not open_ended:
                break
            if now > stop + PATIENCE_SECONDS:
                raise wire.WireError(f"{len(under_way):,} posts are not answered after {now - stop:g} s")
            for line in ready(due - now if per_second and open_ended and idle else PATIENCE_SECONDS):
                payloads = line.read()
                at = perf_counter()
                if line in observers:
                    line.heard += [(at, payload) for payload in payloads]
                    continue
                for payload in payloads:
                    if not payload.startswith(REPLY):
                        continue
                    post, since = under_way.pop(line)
                    if not payload.startswith(b'{"id":%d,"reply":' % post.number):
                        raise wire.WireError(f"expected the reply to post {post.number}, got {payload!r}")
                    answers.append(Answer(post, line, since, at, payload))
                    idle.append(line)
        took = perf_counter() - started
        gc.unfreeze()
        return Run(took, answers, (process_time() - cpu) / took)

    def listen(self, seconds: float) -> None:
        """Hear what observers get within so long."""
        until = perf_counter() + seconds
        while (left := until - perf_counter()) > 0:
            for line in self._lines.ready(left):
                payloads, at = line.read(), perf_counter()
                if line in self._observers:
                    line.heard += [(at, payload) for payload in payloads]
