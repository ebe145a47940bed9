"""What one process of a load test says and hears, written down as it happens. It judges nothing.

A frame is counted as it comes, before anybody could take two for one. What a connection hears is kept as runs
of sequences in the order of their coming: nothing is lost by that, and a clean run is two numbers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

Data = dict[str, Any]
"""What travels between processes: only texts, numbers, lists and dicts."""


def digest(text: str) -> str:
    """The hash by which texts are compared."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


class Line(NamedTuple):
    """What has an order of its own: a stream in one of its lives, or the markers of one sender in a group."""

    kind: str
    place: str
    epoch: int
    sender: str


class Said(NamedTuple):
    """Something acknowledged: by its sender's record, never by a receipt."""

    line: Line
    sequence: int
    digest: str
    by: str
    node: str


@dataclass
class Listener:
    """Somebody who had joined, and from where on everything has to come."""

    receiver: str
    node: str
    kind: str
    place: str
    epoch: int
    after: int
    until: int | None = None
    """The last sequence that was still meant for them; None: they stayed."""
    runs: dict[str, list[int]] = field(default_factory=dict)
    """By the line's sender ("" for streams): first and last of each run, one after the other."""

    def hear(self, sender: str, sequence: int) -> None:
        """A frame came."""
        runs = self.runs.setdefault(sender, [])
        if runs and sequence == runs[-1] + 1:
            runs[-1] = sequence
        else:
            runs += (sequence, sequence)

    def last(self, sender: str = "") -> int:
        """The highest sequence so far, or where they joined."""
        return max(self.runs.get(sender, ()), default=self.after)


class Account:
    """The record of one process. `news` is what came since it was last asked for, to be merged elsewhere."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.counts: Counter[str] = Counter()
        """`users`, `joined`, `connects`, `refused`, `reconnects`, `resets`, `unanswered`, `rejected`."""
        self.hellos: Counter[str] = Counter()
        """Connections by the node that their own hello named."""
        self.senders: set[str] = set()
        """Who is to say something."""
        self.raised: list[str] = []
        """What broke in this very process."""
        self._said: list[Said] = []
        self._texts: dict[tuple[Line, int], str] = {}
        self._new_texts: list[tuple[Line, int, str]] = []
        self._others: list[tuple[str, Line, int, str]] = []

    def say(self, said: Said) -> None:
        """It was acknowledged."""
        self._said.append(said)

    def hear(self, listener: Listener, sender: str, sequence: int, text: str) -> None:
        """A frame came, with this text."""
        listener.hear(sender, sequence)
        line, hashed = Line(listener.kind, listener.place, listener.epoch, sender), digest(text)
        first = self._texts.get((line, sequence))
        if first is None:
            self._texts[line, sequence] = hashed
            self._new_texts.append((line, sequence, hashed))
        elif first != hashed:
            self._others.append((listener.receiver, line, sequence, hashed))

    def news(self) -> Data:
        """What was said and read since the last call, and all the rest as it stands."""
        said, self._said = self._said, []
        texts, self._new_texts = self._new_texts, []
        return {
            "said": said,
            "texts": texts,
            "others": self._others,
            "listeners": [vars(listener) for listener in self.listeners],
            "counts": dict(self.counts),
            "hellos": dict(self.hellos),
            "senders": sorted(self.senders),
            "raised": self.raised,
        }


class Book:
    """One process' account as the one who judges has it."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.texts: dict[tuple[Line, int], str] = {}
        self.others: dict[tuple[str, Line, int], list[str]] = {}
        """Texts that differ from the first one that came to this process."""
        self.listeners: list[Listener] = []
        self.counts: Counter[str] = Counter()
        self.hellos: Counter[str] = Counter()
        self.senders: set[str] = set()
        self.raised: list[str] = []
        self._arrived: list[tuple[float, int]] = []

    def merge(self, news: Data, at: float = 0.0) -> None:
        """Take what an account had to tell, at this time of any clock."""
        self._arrived.append((at, len(self.said) + len(news["said"])))
        self.said += (Said(Line(*line), *rest) for line, *rest in news["said"])
        self.texts |= {(Line(*line), sequence): hashed for line, sequence, hashed in news["texts"]}
        self.listeners = [Listener(**listener) for listener in news["listeners"]]
        self.counts, self.hellos = Counter(news["counts"]), Counter(news["hellos"])
        self.senders, self.raised = set(news["senders"]), list(news["raised"])
        self.others = {}
        for receiver, line, sequence, hashed in news["others"]:
            self.others.setdefault((receiver, Line(*line), sequence), []).append(hashed)

    def said_before(self, at: float) -> list[Said]:
        """What had been told by then."""
        return self.said[: max((count for when, count in self._arrived if when <= at), default=0)]

    def heard_as(self, receiver: str, line: Line, sequence: int) -> Sequence[str]:
        """The texts that `receiver` may have got there: one, unless something was altered."""
        altered = self.others.get((receiver, line, sequence))
        return altered or [self.texts.get((line, sequence), "")]
