"""Where the primary is, from Sentinels that answer, disagree, hang, vanish and forget."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.realtime import sentinel
from app.realtime.redis_connection import Address, Credentials
from app.realtime.sentinel import PrimaryUnknown, Sentinels
from tests.broker_contract import PATIENCE, eventually
from tests.unit.realtime.fake_redis import FakeRedis, behave, bulk, push, silent_after_hello

OLD, NEW = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
SOON = 0.1


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel, "POLL_SECONDS", 0.02)


class FakeSentinel:
    def __init__(self, server: FakeRedis) -> None:
        self.server = server
        self.primary: Address | None = OLD
        self.epoch = 0
        server.answer = self._answer

    def promote(self, primary: Address, epoch: int) -> None:
        self.primary, self.epoch = primary, epoch

    def _answer(self, command: list[bytes]) -> bytes:
        if command[0] != b"SENTINEL":
            return behave(command)
        if self.primary is None or command[2] != b"main":
            return b"-ERR No such master with that name\r\n" if command[1] == b"MASTER" else b"_\r\n"
        if command[1] == b"MASTER":
            return b"%1\r\n" + bulk(b"config-epoch") + bulk(b"%d" % self.epoch)
        return b"*2\r\n" + bulk(self.primary[0].encode()) + bulk(b"%d" % self.primary[1])


@asynccontextmanager
async def watching(
    count: int, name: str = "main", password: str = ""
) -> AsyncIterator[tuple[list[FakeSentinel], Sentinels, list[Address]]]:
    """So many Sentinels, who watches them, and each primary that was told."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(FakeRedis.serving()) for _ in range(count)]
        fakes = [FakeSentinel(server) for server in servers]
        told: list[Address] = []
        sentinels = Sentinels(
            [server.address for server in servers], name, Credentials("test", "", password), SOON
        )
        sentinels.start(told.append)
        stack.push_async_callback(sentinels.stop)
        yield fakes, sentinels, told


async def test_the_first_answer_is_enough_when_others_hang() -> None:
    async with watching(3) as (fakes, sentinels, _):
        for fake in fakes[:2]:
            fake.server.answer = silent_after_hello
        assert await sentinels.find(PATIENCE) == OLD


async def test_a_change_is_told_once_although_every_sentinel_reports_it() -> None:
    async with watching(3) as (fakes, sentinels, told):
        await sentinels.find(PATIENCE)
        for fake in fakes:
            fake.promote(NEW, epoch=1)
        await eventually(lambda: len(told) == 2, "the change is told")
        for fake in fakes:
            asked = len(fake.server.commands)
            await eventually(lambda: len(fake.server.commands) > asked + 4, "each was asked again")  # noqa: B023
        assert told == [OLD, NEW]
        assert await sentinels.find(PATIENCE) == NEW


async def test_one_who_knows_of_a_newer_epoch_outweighs_all_who_do_not() -> None:
    async with watching(3) as (fakes, sentinels, told):
        await sentinels.find(PATIENCE)
        fakes[0].promote(NEW, epoch=1)
        await eventually(lambda: told == [OLD, NEW], "the new primary is told")
        for _ in range(5):
            assert await sentinels.find(PATIENCE) == NEW
        assert told == [OLD, NEW]


@pytest.mark.parametrize("announcement", sentinel.ANNOUNCEMENTS)
async def test_an_announcement_is_looked_into_without_waiting_for_the_next_poll(
    announcement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel, "POLL_SECONDS", 1_000.0)
    async with watching(1) as ([fake], sentinels, told):
        await sentinels.find(PATIENCE)
        fake.promote(NEW, epoch=1)
        fake.server.say(push(b"message", announcement.encode(), b"main 10.0.0.1 6379 10.0.0.2 6379"))
        await eventually(lambda: told == [OLD, NEW], "the new primary is told")


async def test_without_any_announcement_a_change_is_found_by_asking() -> None:
    async with watching(1) as ([fake], sentinels, told):
        await sentinels.find(PATIENCE)
        fake.promote(NEW, epoch=1)
        await eventually(lambda: told == [OLD, NEW], "the new primary is told")


async def test_a_primary_that_no_sentinel_knows_is_named_with_their_words() -> None:
    async with watching(2, name="other") as (_, sentinels, _):
        with pytest.raises(PrimaryUnknown, match="does not know 'other': ERR No such master"):
            await sentinels.find(SOON)


async def test_sentinels_that_cannot_be_reached_are_each_named_without_secrets() -> None:
    async with watching(2, password="hunter2") as (fakes, sentinels, _):
        fakes[0].server.answer = lambda _: b"-WRONGPASS invalid password\r\n"
        fakes[1].server.answer = lambda _: b""
        await eventually(lambda: all(fake.server.commands for fake in fakes), "both were asked")
        with pytest.raises(PrimaryUnknown) as unknown:
            await sentinels.find(3 * SOON)
        for fake in fakes:
            assert str(fake.server.address[1]) in str(unknown.value)
        assert "WRONGPASS" in str(unknown.value) and "hunter2" not in str(unknown.value)


async def test_when_all_sentinels_have_gone_the_last_known_primary_is_the_answer() -> None:
    async with watching(2) as (fakes, sentinels, told):
        await sentinels.find(PATIENCE)
        for fake in fakes:
            fake.server.answer = lambda _: b""
            fake.server.clients[0].abort()
        assert await sentinels.find(SOON) == OLD
        assert told == [OLD]


async def test_a_sentinel_that_comes_back_is_listened_to_again() -> None:
    async with watching(1) as ([fake], sentinels, told):
        await sentinels.find(PATIENCE)
        fake.server.clients[0].abort()
        fake.promote(NEW, epoch=1)
        await eventually(lambda: told == [OLD, NEW], "the new primary is told")
        fake.server.say(push(b"message", b"+switch-master", b"main"))


async def test_the_word_of_one_that_has_gone_for_good_ends_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel, "WORD_SECONDS", 1.0)
    async with watching(2) as (fakes, sentinels, told):
        fakes[0].promote(NEW, epoch=7)
        await eventually(lambda: told[-1:] == [NEW], "the newer word is told")
        fakes[0].server.answer = lambda _: b""
        fakes[0].server.clients[0].abort()
        assert await sentinels.find(PATIENCE) == NEW
        await eventually(lambda: told[-1:] == [OLD], "those that are left are believed")


async def test_stopping_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with watching(3) as (fakes, sentinels, _):
        fakes[0].server.answer = lambda _: b""
        await sentinels.find(PATIENCE)
    assert asyncio.all_tasks() == before
