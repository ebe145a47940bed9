"""Rights that were granted, looked at again as long as they are used: soon, when told to, and in rounds.

Many are one question to the database, and a round is spread over its time. Nothing runs, and nothing is
kept, for whoever is gone. Must never decide by itself: what the database says counts.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from asyncio import Task
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial
from typing import ClassVar, Final, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet, ref

from app.accounts.access_changes import access_changes_of
from app.database.thread import OutageLog, in_database_thread
from app.observability import metrics
from app.realtime.node import Node

logger = logging.getLogger(__name__)

SOON_SECONDS: Final = 0.2
"""From the first news to the question: what comes meanwhile shares it."""

ROUND_SECONDS: Final = 25.0
"""Who comes amid a round is in the next one: so everybody is looked at twice a minute, or nearly."""

PART: Final = 250
"""Whom a round looks at together."""

QUESTIONS: Final = 500
"""What the database is asked at once."""

RECENT_SECONDS: Final = 30.0
"""A right that is granted now was read so long ago at most: what changed since then is looked at again."""

RETRY_SECONDS: Final = 1.0

Owner = TypeVar("Owner")
Value = TypeVar("Value")
Question = TypeVar("Question")
Verdict = TypeVar("Verdict")


class Rechecks(ABC, Generic[Owner, Value, Question, Verdict]):
    """One node's, for one kind of right: whoever has it, and what is to be asked about them."""

    subjects: ClassVar[tuple[str, ...]]
    """How the subjects of changes begin that bear on it."""

    what: ClassVar[str]
    """For the log, of the questions."""

    def __init__(self, node: Node) -> None:
        self._watched: WeakKeyDictionary[Owner, Value] = WeakKeyDictionary()
        self._soon: WeakSet[Owner] = WeakSet()
        self._named: set[str] = set()
        self._recent: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        self._outage = OutageLog(logger, self.what)
        self._checking: Task[None] | None = None
        self._going_round: Task[None] | None = None
        access_changes_of(node).listen(self.changed)
        node.before_stop(self._stop)

    @abstractmethod
    def questions(self, owner: Owner, value: Value) -> Iterable[Question]:
        """What to ask about `owner` now."""

    @abstractmethod
    def concerned(self, owner: Owner, value: Value, subjects: Set[str]) -> bool:
        """Whether a change of these bears on `owner`."""

    @abstractmethod
    def judge(self, questions: Sequence[Question]) -> Mapping[Question, Verdict]:
        """Asks the database, in its thread: those for whom the right is gone."""

    @abstractmethod
    def revoke(self, owner: Owner, question: Question, verdict: Verdict) -> None:
        """Act on it."""

    def watch(self, owner: Owner, value: Value, *, soon: bool = False) -> None:
        """Look at `owner` as long as it lives. `soon`: what it was granted for was not asked about yet."""
        self._watched[owner] = value
        if soon or (self._recent and self.concerned(owner, value, self._recent.keys())):
            self._look_soon([owner])
        if self._going_round is None:
            self._going_round = asyncio.create_task(self._go_round(), name=f"{self.what}, in rounds")

    def changed(self, subjects: Set[str] | None) -> None:
        """Look at once at whom these concern; None: at everybody."""
        if subjects is None:
            self._look_soon(self._watched)
            return
        now = self._loop.time()
        self._recent = {one: at for one, at in self._recent.items() if now - at < RECENT_SECONDS}
        mine = {subject for subject in subjects if subject.startswith(self.subjects)}
        if mine:
            self._recent.update(dict.fromkeys(mine, now))
            self._named |= mine
            self._look_soon(())

    def _look_soon(self, owners: Iterable[Owner]) -> None:
        self._soon.update(owners)
        if self._checking is None and (self._soon or self._named):
            self._checking = asyncio.create_task(self._check_soon(), name=self.what)

    async def _check_soon(self) -> None:
        try:
            while self._soon or self._named:
                await asyncio.sleep(SOON_SECONDS)
                named, self._named = self._named, set()
                if named:
                    watched = self._watched.items()
                    self._soon.update(
                        [owner for owner, value in watched if self.concerned(owner, value, named)]
                    )
                owners = [ref(owner) for owner in self._soon]
                self._soon.clear()
                if not await self._check(owners):
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._checking = None

    async def _go_round(self) -> None:
        try:
            while self._watched:
                owners = self._watched.keyrefs()
                for start in range(0, len(owners), PART):
                    await asyncio.sleep(ROUND_SECONDS * PART / max(PART, len(owners)))
                    await self._check(owners[start : start + PART])
        finally:
            self._going_round = None

    async def _check(self, owners: "Iterable[ref[Owner]]") -> bool:
        """Ask about them, and act. False: the database did not answer, they will be asked about again."""
        asked: dict[Question, list[ref[Owner]]] = defaultdict(list)
        for known in owners:
            owner = known()
            if owner is not None:
                for question in self.questions(owner, self._watched[owner]):
                    asked[question].append(known)
        owner = None  # none of them is kept alive for a question
        questions = list(asked)
        for start in range(0, len(questions), QUESTIONS):
            some = questions[start : start + QUESTIONS]
            try:
                verdicts = await in_database_thread(partial(self.judge, some))
            except Exception as error:
                self._outage.failed(error)
                metrics.verifications.labels("failed").inc(len(some))
                left = {known for question in questions[start:] for known in asked[question]}
                self._look_soon([owner for known in left if (owner := known()) is not None])
                return False
            self._outage.worked()
            metrics.verifications.labels("held").inc(len(some) - len(verdicts))
            metrics.verifications.labels("revoked").inc(len(verdicts))
            for question, verdict in verdicts.items():
                for known in asked[question]:
                    self._act(known(), question, verdict)
        return True

    def _act(self, owner: Owner | None, question: Question, verdict: Verdict) -> None:
        if owner is None:
            return
        try:
            self.revoke(owner, question, verdict)
        except Exception:
            logger.exception("%s: one could not be acted on", self.what)

    async def _stop(self) -> None:
        tasks = [task for task in (self._checking, self._going_round) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
