"""Questions that are answered together."""

import asyncio
import logging
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from app.database import batches
from app.database.batches import Batches, NoAnswer

logger = logging.getLogger("test")


class Database:
    """Doubles numbers when it is let; refuses odd ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[int]] = []
        self.may_answer = Event()
        self.down = False
        monkeypatch.setattr(batches, "in_database_thread", self.in_thread)

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)

    def answer_all(self, numbers: list[int]) -> list[int | Exception]:
        self.may_answer.wait(10)
        self.asked.append(numbers)
        if self.down:
            raise RuntimeError("down")
        return [ValueError(f"{number} is odd") if number % 2 else number * 2 for number in numbers]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    return Database(monkeypatch)


@pytest.fixture
def doubles(database: Database) -> "Batches[int, int]":
    return Batches(database.answer_all, logger, "doubling")


async def test_what_is_asked_during_an_answer_goes_into_the_next(
    database: Database, doubles: "Batches[int, int]"
) -> None:
    first = asyncio.create_task(doubles.ask(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(doubles.ask(number)) for number in (4, 6, 8)]
    await asyncio.sleep(0)
    database.may_answer.set()
    assert await asyncio.gather(first, *others) == [4, 8, 12, 16]
    assert database.asked == [[2], [4, 6, 8]]


async def test_no_answer_is_longer_than_the_limit(
    database: Database, doubles: "Batches[int, int]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_LIMIT", 2)
    database.may_answer.set()
    assert await asyncio.gather(*map(doubles.ask, (2, 4, 6, 8, 10))) == [4, 8, 12, 16, 20]
    assert database.asked == [[2, 4], [6, 8], [10]]


async def test_a_rush_is_waited_for(
    database: Database, doubles: "Batches[int, int]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "RUSH", 2)
    pause = asyncio.Event()
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: pause.wait())
    database.may_answer.set()
    await asyncio.gather(doubles.ask(2), doubles.ask(4))
    others = [asyncio.create_task(doubles.ask(6))]
    await asyncio.to_thread(lambda: None)  # the first of the next is there, and not answered alone
    others.append(asyncio.create_task(doubles.ask(8)))
    await asyncio.to_thread(lambda: None)
    pause.set()
    assert await asyncio.gather(*others) == [12, 16]
    assert database.asked == [[2, 4], [6, 8]]


async def test_an_exception_is_for_the_one_who_asked(
    database: Database, doubles: "Batches[int, int]"
) -> None:
    database.may_answer.set()
    two, three = await asyncio.gather(doubles.ask(2), doubles.ask(3), return_exceptions=True)
    assert two == 4
    assert isinstance(three, ValueError)


async def test_who_goes_away_takes_the_answer_from_nobody(
    database: Database, doubles: "Batches[int, int]"
) -> None:
    first, second = (asyncio.create_task(doubles.ask(number)) for number in (2, 4))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    database.may_answer.set()
    assert await second == 8


async def test_a_database_that_fails_is_said_once_and_asked_again(
    database: Database, doubles: "Batches[int, int]", caplog: pytest.LogCaptureFixture
) -> None:
    database.may_answer.set()
    database.down = True
    for _ in range(3):
        with pytest.raises(NoAnswer, match="down"):
            await doubles.ask(2)
    database.down = False
    assert await doubles.ask(2) == 4
    assert caplog.text.count("doubling fails: down") == 1


async def test_a_database_that_says_nothing_is_given_up(
    database: Database, doubles: "Batches[int, int]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "ANSWER_SECONDS", 0.01)
    try:
        with pytest.raises(NoAnswer, match=r"no answer for 0\.01 s"):
            await doubles.ask(2)
    finally:
        database.may_answer.set()
    await asyncio.sleep(0)
