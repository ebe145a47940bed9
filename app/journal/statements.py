"""The SQL by which a batch becomes events. Each set of kinds has its own, put together once.

The steps are the same on both databases: the batch with its streams' positions, the keys `known` already,
what features `refused` of what repeats nothing, the rest with new keys `accepted` with the next sequences,
then what features write beside it. Whose key stands for something else is told so behind the refusals only:
to those who are to know of nothing here a used key says no more than a new one.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from app.journal.entry import EventKind
from app.journal.kinds import kind

LOCK: Final = b"""
SELECT count(*) FROM (
    SELECT 1 FROM journal_position WHERE stream = ANY($1) ORDER BY id FOR NO KEY UPDATE
) AS locked"""
"""PostgreSQL: every batch takes its locks in one order, so that no two of them wait for each other."""

LOCK_FREE: Final = b"""
SELECT stream FROM journal_position WHERE stream = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""
STREAMS: Final = b"SELECT stream FROM journal_position WHERE stream = ANY($1)"

_FIELDS: Final = "n, stream, position_id, key, sender, subject, removes, at, data"

_ACCEPTED: Final = """
    SELECT f.*, f.last_sequence + row_number() OVER (PARTITION BY f.position_id ORDER BY f.n) AS sequence
    FROM batch_fresh f
    WHERE f.n NOT IN (SELECT n FROM batch_refused) AND f.n NOT IN (SELECT n FROM batch_known)"""

_STORE: Final = """
    INSERT INTO journal_event (position_id, sequence, key, sender, kind, subject, removes, payload, at)
    SELECT position_id, sequence, key, sender, kind, subject, removes, payload, at FROM batch_accepted"""

_MOVE: Final = """
    UPDATE journal_position SET last_sequence = a.last
    FROM (SELECT position_id, max(sequence) AS last FROM batch_accepted GROUP BY position_id) a
    WHERE journal_position.id = a.position_id"""

_POSTGRES: Final = f"""
WITH batch_incoming AS MATERIALIZED (
    SELECT e.n, e.stream, p.id AS position_id, p.epoch, p.last_sequence, e.kind, e.key, e.sender, e.subject,
        e.removes, e.at, e.payload::text AS payload, (e.payload->'data')::jsonb AS data
    FROM json_to_recordset($1::json) AS e(n bigint, stream varchar, kind varchar, key uuid, sender varchar,
        subject uuid, removes varchar, at timestamptz, payload json)
    JOIN journal_position p ON p.stream = e.stream
),
batch_known AS MATERIALIZED (
    SELECT i.n, i.epoch, e.sequence, e.at, e.position_id = i.position_id AND e.sender = i.sender
        AND e.kind = i.kind AND e.subject IS NOT DISTINCT FROM i.subject AND {{same_content}} AS same
    FROM batch_incoming i JOIN journal_event e ON e.key = i.key
),
batch_fresh AS MATERIALIZED (
    SELECT * FROM batch_incoming WHERE n NOT IN (SELECT n FROM batch_known WHERE same)
),
batch_refused AS MATERIALIZED ({{refused}}),
batch_accepted AS MATERIALIZED ({_ACCEPTED}),
stored AS ({_STORE}),
moved AS ({_MOVE}){{effects}}{{outbox}}
SELECT n, epoch, sequence, NULL::bigint, NULL::text, NULL::text FROM batch_accepted
UNION ALL
SELECT n, epoch, CASE WHEN same THEN sequence END, (extract(epoch FROM at) * 1000000)::bigint, NULL, NULL
FROM batch_known WHERE n NOT IN (SELECT n FROM batch_refused)
UNION ALL
SELECT n, NULL, NULL, NULL, code, message FROM batch_refused
"""  # noqa: S608

_OUT_OF_THE_OUTBOX: Final = """
    DELETE FROM journal_outbox WHERE id IN ({ids}) AND key IN (
        SELECT key FROM batch_accepted
        UNION ALL SELECT i.key FROM batch_incoming i JOIN batch_known k ON k.n = i.n WHERE k.same
    )"""
"""Of these rows what is in the journal now, in the transaction that put it there."""

_NONE_REFUSED: Final = "SELECT NULL::bigint AS n, NULL::text AS code, NULL::text AS message LIMIT 0"


@lru_cache(maxsize=256)
def postgres_store(names: tuple[str, ...], outbox: bool) -> bytes:
    """The one statement for a batch of the kinds of these names; `$1` is a JSON list of its rows. With
    `outbox` `$2` are rows of the outbox whose entries are in the batch.

    Answers with `n, epoch, sequence, at, code, message`. Stored now: no `at`. Stored before: when, in
    microseconds, and where if it was the same entry. Refused by a feature: a code. No row: no such stream.
    All parts see the database as it was before: none sees what another one writes.
    """
    used = [kind(name) for name in names]
    refusals = " UNION ALL ".join(f"({refusal})" for refusal in _refusals(used))
    refused = f"SELECT n, min(code) AS code, min(message) AS message FROM ({refusals}) r GROUP BY n"  # noqa: S608
    effects = (f",\neffect_{number} AS ({effect})" for number, effect in enumerate(_effects(used)))
    moved = _OUT_OF_THE_OUTBOX.format(ids="SELECT unnest($2::bigint[])")
    text = _POSTGRES.format(
        same_content=_same_content(used, "e.payload::json", "IS NOT DISTINCT FROM"),
        refused=refused if refusals else _NONE_REFUSED,
        effects="".join(effects),
        outbox=f",\nout_of_the_outbox AS ({moved})" if outbox else "",
    )
    return text.encode()


SQLITE_TABLES: Final = """
    CREATE TEMP TABLE IF NOT EXISTS batch (n INTEGER PRIMARY KEY, stream, kind, key, sender, subject, removes,
        at, payload);
    CREATE TEMP TABLE IF NOT EXISTS batch_known (n INTEGER PRIMARY KEY, epoch, sequence, at, same);
    CREATE TEMP TABLE IF NOT EXISTS batch_refused (n INTEGER, code, message);
    CREATE TEMP TABLE IF NOT EXISTS batch_accepted (n INTEGER PRIMARY KEY, stream, position_id, epoch, kind,
        key, sender, subject, removes, at, payload, data, sequence);
    CREATE TEMP VIEW IF NOT EXISTS batch_incoming AS
        SELECT b.n, b.stream, p.id AS position_id, p.epoch, p.last_sequence, b.kind, b.key, b.sender,
            b.subject, b.removes, b.at, b.payload, json_extract(b.payload, '$.data') AS data
        FROM batch b JOIN journal_position p ON p.stream = b.stream;
    CREATE TEMP VIEW IF NOT EXISTS batch_fresh AS
        SELECT * FROM batch_incoming WHERE n NOT IN (SELECT n FROM batch_known WHERE same);
"""
"""Of one connection. They stand for the parts of PostgreSQL's statement of the same names."""

SQLITE_ROW: Final = "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

_KNOWN: Final = """
    INSERT INTO batch_known
    SELECT i.n, i.epoch, e.sequence, e.at, e.position_id = i.position_id AND e.sender = i.sender
        AND e.kind = i.kind AND e.subject IS i.subject AND {same_content}
    FROM batch_incoming i JOIN journal_event e ON e.key = i.key"""

_KEEP: Final = f"""
    INSERT INTO batch_accepted
    SELECT n, stream, position_id, epoch, kind, key, sender, subject, removes, at, payload, data, sequence
    FROM ({_ACCEPTED})"""  # noqa: S608

SQLITE_CLEAR: Final = tuple(
    f"DELETE FROM {table}"  # noqa: S608
    for table in ("batch", "batch_known", "batch_refused", "batch_accepted")
)

SQLITE_ANSWER: Final = """
    SELECT n, epoch, sequence, NULL, NULL, NULL FROM batch_accepted
    UNION ALL
    SELECT n, epoch, CASE WHEN same THEN sequence END, at, NULL, NULL FROM batch_known
    WHERE n NOT IN (SELECT n FROM batch_refused)
    UNION ALL
    SELECT n, NULL, NULL, NULL, min(code), min(message) FROM batch_refused GROUP BY n
"""
"""As PostgreSQL's, with `at` as it is stored."""


@lru_cache(maxsize=256)
def sqlite_store(names: tuple[str, ...]) -> tuple[str, ...]:
    """The statements for a batch of the kinds of these names in the table `batch`, one after the other."""
    used = [kind(name) for name in names]
    refusals = (f"INSERT INTO batch_refused {refusal}" for refusal in _refusals(used))
    known = _KNOWN.format(same_content=_same_content(used, "e.payload", "IS"))
    return (known, *refusals, _KEEP, *_effects(used), _STORE, _MOVE)


_OUTBOX: Final = """
    SELECT id, stream, kind, key, sender, subject, removes, payload, {at}
    FROM journal_outbox WHERE failure = '' AND stream {without} ORDER BY id LIMIT {limit}"""

POSTGRES_OUTBOX: Final = _OUTBOX.format(
    at="(extract(epoch FROM created_at) * 1000000)::bigint", limit="$1", without="<> ALL($2)"
).encode()
"""The oldest rows of the outbox but for some streams, the time in microseconds."""

POSTGRES_FAILED: Final = b"UPDATE journal_outbox SET failure = $1 WHERE id = $2 AND failure = ''"

SQLITE_OUTBOX: Final = _OUTBOX.format(
    at="created_at", limit="?", without="NOT IN (SELECT value FROM json_each(?))"
)
SQLITE_MOVED: Final = _OUT_OF_THE_OUTBOX.format(ids="SELECT value FROM json_each(?)")
SQLITE_FAILED: Final = "UPDATE journal_outbox SET failure = ? WHERE id = ? AND failure = ''"


def _same_content(kinds: Sequence[EventKind], payload: str, same: str) -> str:
    """Whether the known event `e` says what `i` does; of one whose text is gone nobody knows."""
    cases = [
        f"WHEN i.kind = '{each.name}' THEN "
        + " AND ".join(f"{payload}->'data'->>'{name}' {same} i.data->>'{name}'" for name in each.content)
        for each in kinds
        if each.content
    ]
    return f"CASE WHEN e.payload = '' OR e.kind <> i.kind THEN TRUE {' '.join(cases)} ELSE TRUE END"


def _refusals(kinds: Sequence[EventKind]) -> list[str]:
    return [
        f"{_rows('incoming', 'batch_fresh', each)} SELECT n, code, message FROM ({each.refusals}) AS r"  # noqa: S608
        for each in kinds
        if each.refusals
    ]


def _effects(kinds: Sequence[EventKind]) -> list[str]:
    return [
        f"{_rows('accepted', 'batch_accepted', each, ', sequence')} {effect}"
        for each in kinds
        for effect in each.effects
    ]


def _rows(name: str, source: str, of: EventKind, more: str = "") -> str:
    """This kind's rows of `source`, for a fragment to find under `name`."""
    return f"WITH {name} AS (SELECT {_FIELDS}{more} FROM {source} WHERE kind = '{of.name}')"  # noqa: S608
