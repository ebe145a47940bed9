"""Programs of people that come back to any node, again and again, until they are stopped."""

import asyncio
from abc import ABC, abstractmethod
from asyncio import Task
from collections.abc import Callable
from random import Random
from typing import ClassVar, Final

from websockets.exceptions import ConnectionClosed

from tests.failure.checker.record import Account
from tests.failure.checker.view import View

AWAY_SECONDS: Final = 0.3
"""Longest pause between two attempts to connect."""

Address = tuple[str, int]
Clock = Callable[[], float]


class Returning(ABC):
    """One program of one person. It lives from `start` to `stop`, on whatever node `choose_node` names."""

    ends: ClassVar[tuple[type[Exception], ...]] = (OSError, TimeoutError)
    """What ends a visit in the course of things."""

    def __init__(
        self,
        name: str,
        person: str,
        cookie: str,
        *,
        choose_node: Callable[[], Address],
        random: Random,
        clock: Clock,
    ) -> None:
        self.name = name
        self.person = person
        self.account = Account(name, person)
        self.view = View(self.account, clock)
        self.trouble: BaseException | None = None
        self._cookie = cookie
        self._choose_node = choose_node
        self._random = random
        self._clock = clock
        self._task: Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._live(), name=self.name)

    async def stop(self) -> None:
        """Leave as somebody who closes the page."""
        if self._task is not None:
            await end_task(self._task)

    @property
    @abstractmethod
    def is_in_all(self) -> bool:
        """Whether it is wherever it means to be."""

    @abstractmethod
    def is_at(self, last: dict[str, tuple[int, int]]) -> bool:
        """Whether it has seen all up to these (epoch, sequence) of the streams it is in."""

    @abstractmethod
    async def _visit(self, address: Address) -> None:
        """One connection, to its end. Raises whatever ended it."""

    @property
    def _may_return(self) -> bool:
        return True

    async def _live(self) -> None:
        while self._may_return:
            try:
                await self._visit(self._choose_node())
            except self.ends as error:
                self.view.cut_off(_why(error))
            except asyncio.CancelledError:
                self.view.cut_off("stopped")
                raise
            except BaseException as error:
                self.trouble = error
                raise
            await asyncio.sleep(self._random.uniform(0, AWAY_SECONDS))


async def end_task(task: Task[None]) -> None:
    """Cancel it until it has ended: one that comes in the same tick as something else gets lost."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1)


def _why(error: BaseException) -> str:
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        return f"closed with {error.rcvd.code}"
    return "silence" if isinstance(error, TimeoutError) else type(error).__name__
