"""What can be planted into a node. Most take one rule of the journal out, so that the checker has to notice.

`bad_bus`, `hears_nothing`, `die_after_commit`, `clock_steps`, `prepares_nothing` and other releases
(`releases.py`) are no faults of the journal: scenarios plant them, and nothing may follow.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from typing import Any, Final

from tests.failure.planted import releases

COMMITS_UNTIL_DEATH: Final = 20
ROLLED_BACK: Final = 10
"""Every so-manieth batch."""
STEP_SECONDS: Final = 240.0
STEP_EVERY_SECONDS: Final = 2.0


def bad_bus() -> None:
    """The bus repeats, drops and reorders: `settings.py` has put it there."""


def prepares_nothing() -> None:
    """As behind a pooler that knows no prepared statements: `settings.py` has said so."""


def hears_nothing() -> None:
    """Redis takes what the node says, answers all it asks, and what is published never comes."""
    from app.realtime.redis_broker import RedisBroker

    RedisBroker._received = lambda self, pushed: None  # type: ignore[method-assign]


def die_after_commit() -> None:
    """kill -9 of oneself when something is stored, and nobody was told yet."""
    from app.journal.writer import Writer

    commits = itertools.count(1)

    def answer(self: Any, batch: Any, answers: Any) -> None:
        if next(commits) % COMMITS_UNTIL_DEATH == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, batch, answers)

    original = Writer._answer
    Writer._answer = answer  # type: ignore[method-assign]


def clock_steps() -> None:
    """The wall clock jumps between right, four minutes ahead and four minutes behind."""
    right = time.time

    def off() -> float:
        return STEP_SECONDS * (int(time.monotonic() / STEP_EVERY_SECONDS) % 3 - 1)

    class Stepping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=off())

    time.time = lambda: right() + off()
    import_module("app.routing")
    from app.journal.writer import Writer

    Writer.__init__.__defaults__ = tuple(
        time.time if value is right else value for value in Writer.__init__.__defaults__ or ()
    )
    for name, module in list(sys.modules.items()):
        if name.startswith(("app.", "django.utils.timezone")) and vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = Stepping


def acknowledges_what_is_rolled_back() -> None:
    """Now and then a batch is answered as stored and is not."""
    from app.journal import sqlite_backend
    from app.journal.postgres_connection import PostgresConnection, Statement

    batches = itertools.count(1)
    run = PostgresConnection.run
    store = sqlite_backend._store

    async def run_and_forget(self: Any, statements: Any) -> Any:
        if len(statements) > 1 and next(batches) % ROLLED_BACK == 0:
            statements = [*statements[:-1], Statement(b"ROLLBACK")]
        return await run(self, statements)

    def store_and_forget(batch: Any, outbox: Any, connection: Any) -> Any:
        rows = store(batch, outbox, connection)
        if next(batches) % ROLLED_BACK == 0:
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
        return rows

    PostgresConnection.run = run_and_forget  # type: ignore[method-assign]
    sqlite_backend._store = store_and_forget


def answers_before_the_commit() -> None:
    """A batch is answered when its rows are written, and committed behind the answer."""
    from app.journal.postgres_backend import _COMMIT, PostgresBackend

    begin, transaction = PostgresBackend._begin, PostgresBackend._transaction
    commits: set[Any] = set()

    async def begin_behind(self: Any) -> Any:
        while commits:
            await asyncio.wait({commits.pop()})
        return await begin(self)

    async def answer_first(self: Any, statements: Any) -> Any:
        if statements[-1] is not _COMMIT or not any(one.holds_locks for one in statements):
            return await transaction(self, statements)
        results = await transaction(self, statements[:-1])
        commits.add(asyncio.create_task(transaction(self, [_COMMIT])))
        return results

    PostgresBackend._begin = begin_behind  # type: ignore[method-assign]
    PostgresBackend._transaction = answer_first  # type: ignore[method-assign]


def holds_locks_for_ever() -> None:
    """Nothing tells the database to end the transaction of a node that fell silent."""
    from app.journal import postgres_backend

    del postgres_backend._FOR_THIS_TRANSACTION["idle_in_transaction_session_timeout"]
    postgres_backend._SINCE_17.clear()


def has_no_patience() -> None:
    """A database that needs more than 0.3 s is given up: `settings.py` has said so."""


def never_tries_again() -> None:
    """What the database rolled back is waited for, and not sent again."""
    from app.journal.backend import RolledBack
    from app.journal.writer import Writer

    store = Writer._store

    async def store_or_wait(self: Any, batch: Any, **more: Any) -> None:
        try:
            await store(self, batch, **more)
        except RolledBack:
            await asyncio.Event().wait()

    Writer._store = store_or_wait  # type: ignore[method-assign]


def bears_no_wrong_clock() -> None:
    """A key from a clock that is a minute ahead of the node's is refused."""
    from app.journal import entry

    vars(entry)["KEY_AHEAD_SECONDS"] = 60


def never_thinks_itself_deaf() -> None:
    """However little it hears, it stays."""
    from app.serving import watch

    vars(watch)["is_deaf"] = lambda *_: False


def stores_every_command_again() -> None:
    """A command that comes again is another one: its key is not looked at."""
    from app.journal.keys import new_key
    from app.journal.writer import Writer

    append = Writer.append

    def append_as_new(self: Any, entry: Any) -> Any:
        entry.key = new_key()
        return append(self, entry)

    Writer.append = append_as_new  # type: ignore[method-assign]


def asks_nobody_for_rights() -> None:
    """Who may write is not asked within the batch."""
    from app.journal import statements

    statements._refusals = lambda kinds: []


def forgets_removals() -> None:
    """Who was removed goes on hearing the room on this node."""
    from app.realtime.stream_audience import StreamAudience

    StreamAudience._remove = lambda self, person: None  # type: ignore[method-assign]


def trusts_the_bus() -> None:
    """What the bus brings goes to clients as it comes."""
    from app.realtime.stream_order import StreamOrder

    def take(self: Any, event: Any) -> Any:
        self.sequence = self.known = max(self.sequence, event.sequence)
        return [event]

    StreamOrder.take = take  # type: ignore[method-assign]


def never_asks_the_database() -> None:
    """Neither holes are filled nor is anything swept: what the bus lost is lost."""
    from app.realtime.streams import Streams

    read_all = Streams._read_all

    async def read_new_ones(self: Any, wanted: Any, sweeping: Any, patient: Any) -> None:
        for active in wanted:
            self._schedule.forget(active)
        new = [active for active in wanted if not active.order.started or active.audience.short]
        if new:
            await read_all(self, new, False, False)

    Streams._read_all = read_new_ones  # type: ignore[method-assign]


def never_sweeps() -> None:
    """Holes are filled; what was last in its stream, and lost, is not missed."""
    from app.realtime.stream_schedule import StreamSchedule

    sweep = StreamSchedule.sweep

    def put_off(self: Any, now: float, healthy: bool) -> bool:
        sweep(self, now, healthy)
        return False

    StreamSchedule.sweep = put_off  # type: ignore[method-assign]


def resumes_from_now() -> None:
    """Who comes back goes on with what comes next, not with what they missed."""
    from app.realtime.streams import Streams

    follow = Streams.follow

    def follow_from_now(self: Any, stream: str, subscriber: Any, **more: Any) -> Any:
        order = self._streams[stream].order
        position = type(more["after"])(order.epoch, order.sequence)
        return follow(self, stream, subscriber, **{**more, "after": position, "events": ()})

    Streams.follow = follow_from_now  # type: ignore[method-assign]


def never_starts_over() -> None:
    """Positions of another life, or from before a purge, are as good as any."""
    from app.realtime.stream_order import StreamOrder

    for name in ("app.chat.room_reads", "app.realtime.stream_audience"):
        vars(import_module(name))["reset_reason"] = lambda *_: None

    def learn(self: Any, read: Any) -> Any:
        self.epoch = read.epoch
        return [ready for event in read.events for ready in self.take(event)]

    StreamOrder.learn = learn  # type: ignore[method-assign]


def believes_any_envelope() -> None:
    """An envelope of another version is taken for one of ours."""
    from app.realtime import envelope

    unpack = envelope.unpack

    def unpack_anything(data: bytes) -> Any:
        try:
            return unpack(data)
        except envelope.UnknownEnvelope:
            return unpack(bytes([envelope.WRITES]) + data[1:])

    envelope.unpack = unpack_anything


FAULTS: Final[dict[str, Callable[[], None]]] = {
    fault.__name__: fault
    for fault in (
        bad_bus,
        prepares_nothing,
        releases.next_release,
        releases.release_after_next,
        releases.speaks_another_version,
        releases.writes_at_once,
        hears_nothing,
        die_after_commit,
        clock_steps,
        acknowledges_what_is_rolled_back,
        answers_before_the_commit,
        holds_locks_for_ever,
        has_no_patience,
        never_tries_again,
        bears_no_wrong_clock,
        never_thinks_itself_deaf,
        stores_every_command_again,
        asks_nobody_for_rights,
        forgets_removals,
        trusts_the_bus,
        never_asks_the_database,
        never_sweeps,
        resumes_from_now,
        never_starts_over,
        believes_any_envelope,
    )
}
