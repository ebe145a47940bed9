import asyncio
import threading
from typing import NoReturn

import pytest

from app.database import thread
from app.database.thread import in_database_thread


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens in the thread, in order; looking after its connections is `tidy`."""
    done: list[str] = []
    monkeypatch.setattr(thread, "close_old_connections", lambda: done.append("tidy"))
    return done


async def test_connections_are_looked_after_before_and_after_the_work(steps: list[str]) -> None:
    await in_database_thread(lambda: steps.append("work"))
    assert steps == ["tidy", "work", "tidy"]


async def test_a_connection_that_broke_is_closed_before_the_next_work_meets_it(steps: list[str]) -> None:
    def fail() -> NoReturn:
        steps.append("work")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await in_database_thread(fail)
    assert steps == ["tidy", "work", "tidy"]


@pytest.mark.usefixtures("steps")
async def test_all_work_shares_one_thread_that_is_not_the_loops() -> None:
    threads = await asyncio.gather(*(in_database_thread(threading.get_ident) for _ in range(5)))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
