"""Who was to hear what, and did they: expected is each acknowledged text for each receiver who had joined.

What is expected comes from the senders' records alone, never from what came.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from loadtest.proof.account import Book, Listener, Said

EXAMPLES: Final = 3
"""Of each fault so many are told in words."""

Pair = tuple[str, str]
"""The node where it was said, and the one where it was to be heard."""


@dataclass
class Finding:
    """Of one kind of thing that is said."""

    expected: Counter[Pair] = field(default_factory=Counter)
    delivered: Counter[Pair] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """`lost`, `altered`, `doubled`, `misordered`."""
    frames: int = 0
    """Everything that came, echoes and doubles too."""
    examples: list[str] = field(default_factory=list)

    def fault(self, what: str, listener: Listener, sequence: int, of: str = "") -> None:
        """Count it, and tell the first ones in words."""
        self.faults[what] += 1
        if self.faults[what] <= EXAMPLES:
            self.examples.append(
                f"{what}: {listener.place} {sequence}{of}, for {listener.receiver} on {listener.node}"
            )


def judge(books: Iterable[Book], before: float = inf) -> dict[str, Finding]:
    """The finding of each kind, over the accounts of all processes: of what was told before then."""
    books = list(books)
    said: dict[tuple[str, str, int], dict[str, list[Said]]] = {}
    for book in books:
        for one in book.said_before(before):
            place = said.setdefault((one.line.kind, one.line.place, one.line.epoch), {})
            place.setdefault(one.line.sender, []).append(one)
    findings: dict[str, Finding] = {}
    for book in books:
        for listener in book.listeners:
            finding = findings.setdefault(listener.kind, Finding())
            lines = said.get((listener.kind, listener.place, listener.epoch), {})
            heard = {sender: _look(listener, sender, runs, finding) for sender, runs in listener.runs.items()}
            for sender, ones in lines.items():
                _compare(book, listener, ones, heard.get(sender, frozenset()), finding)
    return findings


def _look(listener: Listener, sender: str, runs: list[int], finding: Finding) -> set[int]:
    """What came of one line; counts what came twice or late."""
    came: set[int] = set()
    highest = 0
    for first, last in _pairs(runs):
        for sequence in range(first, last + 1):
            finding.frames += 1
            if sequence in came or sequence <= listener.after:
                finding.fault("doubled", listener, sequence)
            elif sequence < highest:
                finding.fault("misordered", listener, sequence, f" behind {highest}")
            came.add(sequence)
            highest = max(highest, sequence)
    return came


def _compare(
    book: Book, listener: Listener, ones: list[Said], came: "set[int] | frozenset[int]", finding: Finding
) -> None:
    until = listener.until
    for one in ones:
        sequence = one.sequence
        if (
            one.by == listener.receiver
            or sequence <= listener.after
            or (until is not None and sequence > until)
        ):
            continue
        pair = one.node, listener.node
        finding.expected[pair] += 1
        if sequence not in came:
            finding.fault("lost", listener, sequence, f" of {one.node}")
        elif any(text != one.digest for text in book.heard_as(listener.receiver, one.line, sequence)):
            finding.fault("altered", listener, sequence, f" of {one.node}")
        else:
            finding.delivered[pair] += 1


def _pairs(runs: list[int]) -> Iterator[tuple[int, int]]:
    return zip(runs[::2], runs[1::2], strict=True)


def nodes_of(findings: Mapping[str, Finding], hellos: Iterable[str]) -> list[str]:
    """All nodes that anybody named."""
    named = {node for finding in findings.values() for pair in finding.expected for node in pair}
    return sorted(named | set(hellos))
