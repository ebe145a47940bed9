"""How far each person read: kept for a moment and written together, so that no mark costs a query.

A node that is killed forgets the marks of its last second.
"""

import asyncio
import json
import logging
from asyncio import Task
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection, transaction

from app.chat.selectors import Pair
from app.database.thread import OutageLog, in_database_thread
from app.realtime.node import Node

logger = logging.getLogger(__name__)

WRITE_SECONDS: Final = 1.0
"""Marks of so long go into one statement."""

WRITE_LIMIT: Final = 2000
"""Marks of one statement."""

STOP_SECONDS: Final = 2.0

WAITING_LIMIT: Final = 20_000
"""While the database is away; then the oldest are forgotten: the client marks again as it reads on."""


class ReadMarkers:
    """One node's marks on their way to the database."""

    def __init__(self, node: Node) -> None:
        node.before_stop(self.stop)
        self._waiting: dict[Pair, int] = {}
        self._task: Task[None] | None = None
        self._outage = OutageLog(logger, "writing read markers")

    def mark(self, slug: str, person: str, sequence: int) -> None:
        """This person read the room up to `sequence`. What is no room of theirs is ignored when written."""
        former = self._waiting.pop((slug, person), 0)
        if len(self._waiting) >= WAITING_LIMIT:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[slug, person] = max(former, sequence)
        if self._task is None:
            self._task = asyncio.create_task(self._write_later(), name="read markers")

    def waiting(self, slug: str, person: str) -> int:
        """The mark that is not written yet; 0: none."""
        return self._waiting.get((slug, person), 0)

    async def flush(self) -> None:
        """Write what waits now. Raises what the database raises; then it still waits."""
        while self._waiting:
            batch = dict(islice(self._waiting.items(), WRITE_LIMIT))
            await in_database_thread(partial(write_marks, batch))
            for pair, sequence in batch.items():
                if self._waiting.get(pair) == sequence:
                    del self._waiting[pair]

    async def stop(self) -> None:
        """The node leaves: write what waits, if the database takes it soon."""
        if self._task is not None:
            self._task.cancel()
        with suppress(TimeoutError, DatabaseError):
            await asyncio.wait_for(self.flush(), STOP_SECONDS)

    async def _write_later(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(WRITE_SECONDS)
                try:
                    await self.flush()
                except Exception as error:
                    self._outage.failed(error)
                else:
                    self._outage.worked()
        finally:
            self._task = None


def write_marks(marks: dict[Pair, int]) -> None:
    """Move each person's mark forward, never back and never beyond what is there; one statement."""
    rows = [{"room": room, "person": person, "sequence": n} for (room, person), n in marks.items()]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_WRITE[connection.vendor], [json.dumps(rows)])


_MARKS: Final = {
    "postgresql": "json_to_recordset(%s::json) AS p(room varchar, person varchar, sequence bigint)",
    "sqlite": "(SELECT value->>'room' AS room, value->>'person' AS person, value->>'sequence' AS sequence"
    " FROM json_each(%s)) AS p",
}

# In one order on every node, so that no two statements wait for each other.
_WRITE: Final = {
    vendor: f"""
INSERT INTO chat_membership (room_id, person, role, muted, last_read)
SELECT r.id, p.person, 'visitor', FALSE,
    CASE WHEN p.sequence > s.last_sequence THEN s.last_sequence ELSE p.sequence END
FROM {marks}
JOIN chat_room r ON r.slug = p.room
JOIN journal_position s ON s.stream = 'room.' || r.slug
LEFT JOIN chat_membership m ON m.room_id = r.id AND m.person = p.person
WHERE COALESCE(m.role, 'visitor') <> 'banned' AND (r.public OR COALESCE(m.role, 'visitor') <> 'visitor')
ORDER BY r.id, p.person
ON CONFLICT (room_id, person) DO UPDATE SET last_read = excluded.last_read, used_at = excluded.used_at
    WHERE excluded.last_read > chat_membership.last_read
"""  # noqa: S608
    for vendor, marks in _MARKS.items()
}


def markers_of(node: Node) -> ReadMarkers:
    """The markers of `node`, made when they are first asked for."""
    return node.part(ReadMarkers)
