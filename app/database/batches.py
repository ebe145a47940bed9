"""Questions of the event loop, answered together: what is asked during one answer goes into the next.

So a thousand clients that come at once cost a few queries, not a thousand, and as few thread hops.
"""

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final, Generic, TypeVar

from app.database.thread import OutageLog, in_database_thread

ANSWER_SECONDS: Final = 5.0
"""A database that does not answer for so long is as good as gone: the client is told to come back."""

BATCH_LIMIT: Final = 4000
"""Questions answered at once: what comes behind them does not wait for ever."""

RUSH: Final = 100
RUSH_SECONDS: Final = 0.05
"""Where so many ask at once more are on their way: the next answer is put off so long, and is for all."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class NoAnswer(Exception):
    """The database does not answer now. The log says why, once."""


class Batches(Generic[Question, Answer]):
    """Asks `answer_all` in the database thread. Must be used from one event loop only.

    It gets a list of questions, and returns their answers in order; an exception among them is raised for
    the one who asked. `awaits_rush`: after many at once the next answer is put off, for more to share it.
    """

    def __init__(
        self,
        answer_all: Callable[[list[Question]], list[Answer | Exception]],
        logger: logging.Logger,
        what: str,
        *,
        awaits_rush: bool = True,
    ) -> None:
        self._answer_all = answer_all
        self._outage = OutageLog(logger, what)
        self._what = what
        self._awaits_rush = awaits_rush
        self._waiting: dict[Future[Answer], Question] = {}
        self._task: Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """The answer. Raises `NoAnswer`."""
        answer: Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = question
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._what)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"no answer for {ANSWER_SECONDS:g} s") from None
        finally:
            self._waiting.pop(answer, None)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = {
                    answer: self._waiting.pop(answer) for answer in [*islice(self._waiting, BATCH_LIMIT)]
                }
                await self._answer(batch)
                if self._awaits_rush and len(batch) >= RUSH:
                    await asyncio.sleep(RUSH_SECONDS)
        finally:
            self._task = None

    async def _answer(self, batch: "dict[Future[Answer], Question]") -> None:
        try:
            answers = await in_database_thread(partial(self._answer_all, list(batch.values())))
        except Exception as error:
            self._outage.failed(error)
            answers = [NoAnswer(str(error))] * len(batch)
        else:
            self._outage.worked()
        for waiter, answer in zip(batch, answers, strict=True):
            if waiter.done():  # cancelled, or too late: harms nobody else
                continue
            if isinstance(answer, Exception):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
