"""What the journal's streams hold, for any number of streams in one query. It only reads."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.db import Error as DatabaseError
from django.db import connection

from app.database.thread import DatabaseThread
from app.realtime.stream import StreamEvent, StreamRead, Unreadable

# One statement sees one state of the database, so a stream's bounds and its events belong together. On
# PostgreSQL LIMIT in a LATERAL keeps the planner from anything but the index, however many streams are asked.
_POSTGRES: Final = """
SELECT p.stream, p.epoch, p.floor, p.last_sequence, e.sequence, e.payload, e.removes
FROM unnest(%(streams)s::varchar[], %(after)s::bigint[]) AS asked(stream, after)
JOIN journal_position p ON p.stream = asked.stream
LEFT JOIN LATERAL (
    SELECT sequence, payload, removes FROM journal_event
    WHERE position_id = p.id AND asked.after < p.last_sequence
        AND sequence > asked.after
    ORDER BY sequence LIMIT %(limit)s
) e ON true
"""
_SQLITE: Final = """
SELECT p.stream, p.epoch, p.floor, p.last_sequence, e.sequence, e.payload, e.removes
FROM json_each(%(asked)s) asked
JOIN journal_position p ON p.stream = asked.key
LEFT JOIN journal_event e ON e.position_id = p.id
    AND e.sequence > asked.value AND e.sequence <= asked.value + %(limit)s
ORDER BY p.id, e.sequence
"""


def read_streams(asked: Mapping[str, int], limit: int) -> dict[str, StreamRead]:
    """Each stream of `asked` (its name → a sequence) with the first `limit` events after that sequence.

    One query, in the caller's thread and transaction. A stream that does not exist is left out.
    """
    if not asked:
        return {}
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(_SQLITE, {"asked": json.dumps(dict(asked)), "limit": limit})
        else:
            cursor.execute(_POSTGRES, {"streams": list(asked), "after": list(asked.values()), "limit": limit})
        return _streams(cursor.fetchall())


def _streams(rows: list[tuple[Any, ...]]) -> dict[str, StreamRead]:
    reads: dict[str, StreamRead] = {}
    for stream, epoch, floor, last_sequence, sequence, payload, removes in rows:
        read = reads.get(stream)
        if read is None:
            read = reads[stream] = StreamRead(epoch, floor, last_sequence, [])
        if sequence is not None:
            read.events.append(StreamEvent(epoch, sequence, payload.encode(), removes))
    return reads


class Reader:
    """Reads streams for the event loop, in a thread of its own: a long read keeps nobody from logging in."""

    def __init__(self) -> None:
        self._thread = DatabaseThread("streams")

    async def read(self, asked: Mapping[str, int], limit: int) -> dict[str, StreamRead]:
        """`read_streams`. Raises `Unreadable`."""
        try:
            return await self._thread.run(partial(read_streams, asked, limit))
        except DatabaseError as error:
            raise Unreadable(str(error)) from error

    async def stop(self) -> None:
        """Leave no connection behind."""
        await self._thread.close_connections()
