"""Chat's reads."""

import asyncio
import time
from asyncio import AbstractEventLoop, Task
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

from app.chat.models import Room
from app.database.thread import in_database_thread

KNOWN_SECONDS: Final = 30.0
"""A room is looked up so often at most, however many people join it."""

UNKNOWN_SECONDS: Final = 1.0
"""A room that was not there may be opened at any moment."""

LOOKUP_LIMIT: Final = 10_000
"""Slugs remembered; they are forgotten together, which costs one query each."""


def rooms() -> list[Room]:
    """The rooms that people see, by title."""
    return list(Room.objects.filter(listed=True))


def room_by_slug(slug: str) -> Room | None:
    """The room at this address."""
    return Room.objects.filter(slug=slug).first()


class RoomLookup:
    """Rooms for one event loop: one query for all who ask at the same time, and then none for a while."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Room | None]] = {}
        self._asking: dict[str, Task[Room | None]] = {}

    async def find(self, slug: str) -> Room | None:
        """The room at this address, as it was up to `KNOWN_SECONDS` ago."""
        until, room = self._known.get(slug, (0.0, None))
        if time.monotonic() < until:
            return room
        task = self._asking.get(slug)
        if task is None:
            task = self._asking[slug] = asyncio.create_task(self._ask(slug))
        # Shielded: who goes away while waiting does not take the answer from the others.
        return await asyncio.shield(task)

    async def _ask(self, slug: str) -> Room | None:
        try:
            room = await in_database_thread(partial(room_by_slug, slug))
        finally:
            del self._asking[slug]
        if len(self._known) >= LOOKUP_LIMIT:
            self._known.clear()
        self._known[slug] = (time.monotonic() + (KNOWN_SECONDS if room else UNKNOWN_SECONDS), room)
        return room


_lookups: "WeakKeyDictionary[AbstractEventLoop, RoomLookup]" = WeakKeyDictionary()


async def find_room(slug: str) -> Room | None:
    """`room_by_slug` for the event loop."""
    loop = asyncio.get_running_loop()
    lookup = _lookups.get(loop)
    if lookup is None:
        lookup = _lookups[loop] = RoomLookup()
    return await lookup.find(slug)
