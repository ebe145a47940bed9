"""What the journal's streams hold, for any number of streams in one query. It only reads."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.db import Error as DatabaseError
from django.db import connection

from app.database.thread import DatabaseThread
from app.realtime.stream import StreamEvent, StreamRead, Unreadable

# One statement sees one state of the database, so a stream's bounds and its events belong together. The size
# of a large payload is known without reading it. LATERAL with LIMIT on PostgreSQL and CROSS JOIN on SQLite
# keep the planner from anything but the index, however many streams are asked.
_READ: Final = """
WITH asked AS MATERIALIZED (
    SELECT a.n, a.after, p.id, p.stream, p.epoch, p.floor, p.last_sequence
    FROM {asked} JOIN journal_position p ON p.stream = a.stream
),
found AS MATERIALIZED (
    SELECT asked.n, e.sequence, e.payload, e.removes, {at} AS at, COALESCE(sum({size}) OVER (
        ORDER BY e.sequence - asked.after, asked.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS bytes_before
    FROM asked CROSS JOIN {events}
)
SELECT a.stream, a.epoch, a.floor, a.last_sequence, f.sequence, f.payload, f.removes, f.at
FROM asked a LEFT JOIN found f ON f.n = a.n AND f.bytes_before < %(size)s
ORDER BY f.sequence
"""
_POSTGRES: Final = _READ.format(
    asked="unnest(%(streams)s::varchar[], %(after)s::bigint[]) WITH ORDINALITY AS a(stream, after, n)",
    size="octet_length(e.payload)",
    at="extract(epoch FROM e.at)::float8",
    events="""LATERAL (
        SELECT sequence, payload, removes, at FROM journal_event
        WHERE position_id = asked.id AND asked.after < asked.last_sequence AND sequence > asked.after
        ORDER BY sequence LIMIT %(limit)s
    ) e""",
)
_SQLITE: Final = _READ.format(
    asked="(SELECT key AS n, value->>0 AS stream, value->>1 AS after FROM json_each(%(asked)s)) AS a",
    size="length(CAST(e.payload AS BLOB))",
    at="(julianday(e.at) - 2440587.5) * 86400",
    events="""journal_event e ON e.position_id = asked.id
        AND e.sequence > asked.after AND e.sequence <= asked.after + %(limit)s""",
)


def read_streams(asked: Mapping[str, int], limit: int, size: int) -> dict[str, StreamRead]:
    """Each stream of `asked` (its name → a sequence) with the first `limit` events after that sequence, until
    all payloads are `size` bytes together: first the next event of each stream, then the second ones.

    One query, in the caller's thread and transaction. A stream that does not exist is left out.
    """
    if not asked:
        return {}
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(_SQLITE, {"asked": json.dumps([*asked.items()]), "limit": limit, "size": size})
        else:
            streams, after = list(asked), list(asked.values())
            cursor.execute(_POSTGRES, {"streams": streams, "after": after, "limit": limit, "size": size})
        return _streams(cursor.fetchall())


def _streams(rows: list[tuple[Any, ...]]) -> dict[str, StreamRead]:
    reads: dict[str, StreamRead] = {}
    for stream, epoch, floor, last_sequence, sequence, payload, removes, at in rows:
        read = reads.get(stream)
        if read is None:
            read = reads[stream] = StreamRead(epoch, floor, last_sequence, [])
        if sequence is not None:
            read.events.append(StreamEvent(epoch, sequence, payload.encode(), removes, at))
    return reads


class Reader:
    """Reads streams for the event loop, in a thread of its own: a long read keeps nobody from logging in."""

    def __init__(self) -> None:
        self._thread = DatabaseThread("streams")

    async def read(self, asked: Mapping[str, int], limit: int, size: int) -> dict[str, StreamRead]:
        """`read_streams`. Raises `Unreadable`."""
        try:
            return await self._thread.run(partial(read_streams, asked, limit, size))
        except DatabaseError as error:
            raise Unreadable(str(error)) from error

    async def stop(self) -> None:
        """Leave no connection behind."""
        await self._thread.close_connections()
