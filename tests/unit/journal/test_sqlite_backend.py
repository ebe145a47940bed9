"""What only SQLite has to be told."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from app.journal.backend import RolledBack, Unanswered
from app.journal.sqlite_backend import SqliteBackend
from tests.unit.journal.notes import note


async def test_what_is_answered_survives_a_power_cut(tmp_path: Path) -> None:
    backend = SqliteBackend({"database": str(tmp_path / "journal.sqlite3")}, seconds=20)
    connection = await asyncio.to_thread(backend._open)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await backend.close()


async def test_a_database_that_somebody_else_writes_to_for_long_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.sqlite_backend.LOCK_SECONDS", 0.05)
    path = str(tmp_path / "journal.sqlite3")
    backend = SqliteBackend({"database": path}, seconds=20)
    await asyncio.to_thread(backend._open)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RolledBack, match="locked"):
        await backend.store([note()])
    other.close()
    await backend.close()


async def test_a_disk_that_hangs_holds_nobody_for_longer_than_the_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "journal.sqlite3")
    backend = SqliteBackend({"database": path}, seconds=0.1)
    connection = await asyncio.to_thread(backend._open)
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"

    def hang(_: sqlite3.Connection) -> list[tuple[int]]:
        return connection.execute(endless).fetchall()

    with pytest.raises(Unanswered):
        await backend._in_thread(lambda: backend._transaction(hang))
    await backend.close()  # and the thread is free again
