"""`python -m loadtest.bench.servers.batches URL SECONDS SIZE ROOM…`: the least that storing posts costs.

One loop with one connection: it locks the rooms' positions and stores events and messages, `SIZE` posts in a
transaction and one round trip for each. It knows no client, right, repeated key or failure, and numbers the
posts itself. Writes one line of JSON: posts and CPU seconds, and milliseconds of its longest batch.
"""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter, process_time, time_ns
from typing import Any, Final
from uuid import UUID

import psycopg

from loadtest.bench.posting import TEXT

_ROOMS: Final = """
    SELECT p.id, p.last_sequence, r.id, r.slug FROM journal_position p
    JOIN chat_room r ON p.stream = 'room.' || r.slug WHERE r.slug = ANY(%s)
"""
_LOCK: Final = "SELECT 1 FROM journal_position WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
_EVENTS: Final = """
    INSERT INTO journal_event (position_id, sequence, key, payload, sender, kind, removes, at)
    SELECT *, 'u1', 'chat.message_posted', '', %s::timestamptz
    FROM unnest(%s::bigint[], %s::bigint[], %s::uuid[], %s::text[])
"""
_MESSAGES: Final = """
    INSERT INTO chat_message
        (room_id, sequence, id, sender, sender_name, sender_is_guest, node, text, sent_at)
    SELECT *, 'u1', 'person-1', false, 'bench-1', %s, %s::timestamptz
    FROM unnest(%s::bigint[], %s::bigint[], %s::uuid[])
"""
_POSITIONS: Final = """
    UPDATE journal_position p SET last_sequence = new.last_sequence
    FROM unnest(%s::bigint[], %s::bigint[]) AS new (id, last_sequence) WHERE p.id = new.id
"""


class Streams:
    """Where each room's stream is."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self.rooms = [(position, room) for position, _, room, _ in rows]
        self.last = {position: sequence for position, sequence, _, _ in rows}
        self.names = {position: name for position, _, _, name in rows}
        self.posted = 0

    def store(self, connection: "psycopg.Connection[Any]", size: int) -> None:
        """One batch, to one room after the other."""
        positions, rooms, sequences, keys, payloads = [], [], [], [], []
        now = datetime.now(UTC)
        stamp = time_ns() // 1_000_000 << 80 | 7 << 76 | 2 << 62
        for number in range(self.posted, self.posted + size):
            position, room = self.rooms[number % len(self.rooms)]
            self.last[position] += 1
            key = UUID(int=stamp + number)
            positions.append(position)
            rooms.append(room)
            sequences.append(self.last[position])
            keys.append(key)
            payloads.append(
                f'{{"event":"chat.message_posted","data":{{"room":"{self.names[position]}","message_id":"{key}",'
                f'"sender":{{"id":"u1","name":"person-1","guest":false}},"text":"{TEXT}",'
                f'"sent_at":"{now.isoformat()}","node":"bench-1"}}}}'
            )
        touched = list(set(positions))
        with connection.pipeline(), connection.transaction():
            connection.execute(_LOCK, [touched])
            connection.execute(_EVENTS, [now, positions, sequences, keys, payloads])
            connection.execute(_MESSAGES, [TEXT, now, rooms, sequences, keys])
            connection.execute(_POSITIONS, [touched, [self.last[one] for one in touched]])
        self.posted += size


def main(url: str, seconds: float, size: int, rooms: Sequence[str]) -> dict[str, float]:
    """Store for so long."""
    with psycopg.connect(url, autocommit=True) as connection:
        streams = Streams(connection.execute(_ROOMS, [list(rooms)]).fetchall())
        cpu, started, took, longest = process_time(), perf_counter(), 0.0, 0.0
        while took < seconds:
            streams.store(connection, size)
            before, took = took, perf_counter() - started
            longest = max(longest, took - before)
    return {
        "per_second": streams.posted / took,
        "cpu_share": (process_time() - cpu) / took,
        "longest": 1000 * longest,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))
