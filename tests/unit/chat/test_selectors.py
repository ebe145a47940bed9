"""Rooms for the event loop: few queries, and none that one client can take from another."""

import asyncio
from threading import Event

import pytest

from app.chat import selectors
from app.chat.models import Room
from app.chat.selectors import RoomLookup


class Database:
    """Counts what it is asked, and answers when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.may_answer = Event()
        monkeypatch.setattr(selectors, "room_by_slug", self.room_by_slug)
        monkeypatch.setattr(selectors, "in_database_thread", asyncio.to_thread)

    def room_by_slug(self, slug: str) -> Room | None:
        self.asked.append(slug)
        self.may_answer.wait(10)
        return Room(slug=slug, title=slug) if slug == "lobby" else None


async def test_many_who_ask_at_once_cost_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    database, lookup = Database(monkeypatch), RoomLookup()
    asking = [asyncio.create_task(lookup.find("lobby")) for _ in range(100)]
    await asyncio.sleep(0)
    database.may_answer.set()
    assert {room.title for room in await asyncio.gather(*asking) if room} == {"lobby"}
    await lookup.find("lobby")
    assert database.asked == ["lobby"]


async def test_who_goes_away_takes_the_answer_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    database, lookup = Database(monkeypatch), RoomLookup()
    first, second = (asyncio.create_task(lookup.find("lobby")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    database.may_answer.set()
    room = await second
    assert room is not None


async def test_a_room_that_was_not_there_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "UNKNOWN_SECONDS", 0.0)
    database, lookup = Database(monkeypatch), RoomLookup()
    database.may_answer.set()
    assert await lookup.find("nowhere") is None
    assert await lookup.find("nowhere") is None
    assert database.asked == ["nowhere", "nowhere"]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "LOOKUP_LIMIT", 3)
    database, lookup = Database(monkeypatch), RoomLookup()
    database.may_answer.set()
    for number in range(10):
        await lookup.find(f"room-{number}")
    assert len(lookup._known) <= 3
