"""What became of one event on all nodes: asked over the bus, answered from each node's account.

Nobody is waited for longer than `ANSWER_SECONDS`. A word that is lost costs an answer, nothing else.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Final

import msgspec

from app.observability import metrics
from app.realtime.delivery_account import DeliveryAccount
from app.realtime.stream import Position

GROUP: Final = "node.deliveries"
"""Questions; the answers go to a group of the node that asked."""

ANSWER_SECONDS: Final = 0.3


class NodeTally(msgspec.Struct, frozen=True):
    """A `Tally`, and of which node."""

    node: str
    expected: int
    written: int
    confirmed: int
    recovered: int


class Deliveries(msgspec.Struct, frozen=True):
    """The nodes that know of the event, by name, and the names of those that did not answer."""

    nodes: list[NodeTally]
    unheard: list[str]


class _Question(msgspec.Struct, frozen=True):
    number: int
    group: str
    """Where the answer goes."""
    stream: str
    epoch: int
    sequence: int


class _Answer(msgspec.Struct, frozen=True):
    number: int
    incarnation: str
    tally: NodeTally | None


class _Round:
    """One question, and who is still to answer."""

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.tallies: list[NodeTally] = []
        self.complete: Future[None] = asyncio.get_running_loop().create_future()

    def take(self, answer: _Answer) -> None:
        self.missing.discard(answer.incarnation)
        if answer.tally is not None:
            self.tallies.append(answer.tally)
        if not self.missing and not self.complete.done():
            self.complete.set_result(None)


_encoder: Final = msgspec.json.Encoder()
_questions: Final = msgspec.json.Decoder(_Question)
_answers: Final = msgspec.json.Decoder(_Answer)


class DeliveryQuestions:
    """Of one node. What others say in `GROUP` goes to `take_question`, in `answers` to `take_answer`; `say`
    publishes on the bus alone."""

    def __init__(
        self, name: str, incarnation: str, account: DeliveryAccount, say: Callable[[str, bytes], bool]
    ) -> None:
        self.answers = f"{GROUP}.{incarnation}"
        self._name = name
        self._incarnation = incarnation
        self._account = account
        self._say = say
        self._numbers = count(1)
        self._rounds: dict[int, _Round] = {}

    def own(self, stream: str, sequence: int, epoch: int | None = None) -> NodeTally | None:
        """What this node knows; None: nothing. `epoch` as in `DeliveryAccount.tally`."""
        tally = self._account.tally(stream, sequence, epoch)
        return None if tally is None else NodeTally(self._name, *tally)

    async def ask(self, stream: str, position: Position, peers: Mapping[str, str]) -> Deliveries:
        """What all nodes know of the event there. `peers`: the other nodes, incarnation → name."""
        number = next(self._numbers)
        asked = self._rounds[number] = _Round(set(peers))
        try:
            if peers:
                question = _Question(number, self.answers, stream, position.epoch, position.sequence)
                self._say(GROUP, _encoder.encode(question))
                with suppress(TimeoutError):
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await asked.complete
        finally:
            del self._rounds[number]
        own = self.own(stream, position.sequence, position.epoch)
        tallies = [*asked.tallies, own] if own else asked.tallies
        return Deliveries(
            sorted(tallies, key=lambda tally: tally.node), sorted(peers[one] for one in asked.missing)
        )

    def take_question(self, payload: bytes) -> None:
        """Another node asks."""
        try:
            asked = _questions.decode(payload)
        except msgspec.DecodeError:
            metrics.bus_received.labels("unknown").inc()
            return
        own = self.own(asked.stream, asked.sequence, asked.epoch)
        self._say(asked.group, _encoder.encode(_Answer(asked.number, self._incarnation, own)))

    def take_answer(self, payload: bytes) -> None:
        """Another node answers; too late is of no use."""
        try:
            answer = _answers.decode(payload)
        except msgspec.DecodeError:
            metrics.bus_received.labels("unknown").inc()
            return
        asked = self._rounds.get(answer.number)
        if asked is not None:
            asked.take(answer)
