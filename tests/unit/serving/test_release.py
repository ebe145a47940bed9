"""Connections that are let go, in virtual time."""

import asyncio
from collections.abc import Callable

from prometheus_client import REGISTRY

from app.serving.pace import Pace
from app.serving.release import Release
from tests import virtual_time


class Connection:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.releasable = True
        self.told: list[float] = []

    def release(self, retry_after: float) -> None:
        self.releasable = False
        self.told.append(retry_after)


def released(reason: str) -> float:
    return REGISTRY.get_sample_value("carillon_connections_released_total", {"reason": reason}) or 0.0


def release(connections: list[Connection], pace: Pace, rate: Callable[[], float] = lambda: 10.0) -> Release:
    return Release("drain", lambda: connections, pace, rate)


def pace(seconds: float = 60.0) -> Pace:
    return Pace(asyncio.get_running_loop().time(), seconds)


def test_each_is_let_go_once_and_counted() -> None:
    async def play() -> None:
        before = released("drain")
        connections = [Connection() for _ in range(50)]
        await release(connections, pace()).run()
        assert [len(one.told) for one in connections] == [1] * 50
        assert released("drain") == before + 50

    virtual_time.run(play())


def test_who_left_by_itself_meanwhile_is_not_waited_for() -> None:
    async def play() -> None:
        connections = [Connection() for _ in range(50)]
        letting_go = asyncio.create_task(release(connections, pace()).run())
        await asyncio.sleep(1)
        by_itself = [one for one in connections if one.releasable]
        assert by_itself
        for one in by_itself:
            one.releasable = False
        await asyncio.sleep(0.2)
        assert letting_go.done()
        assert not any(one.told for one in by_itself)

    virtual_time.run(play())


def test_who_comes_meanwhile_is_let_go_too() -> None:
    async def play() -> None:
        connections = [Connection() for _ in range(20)]
        letting_go = asyncio.create_task(release(connections, pace()).run())
        await asyncio.sleep(1)
        late = Connection()
        connections.append(late)
        await letting_go
        assert late.told

    virtual_time.run(play())


def test_a_rate_that_changes_is_obeyed() -> None:
    async def play() -> None:
        rate = 1.0
        connections = [Connection() for _ in range(1_000)]
        letting_go = asyncio.create_task(release(connections, pace(3_600), lambda: rate).run())
        await asyncio.sleep(10)
        assert sum(bool(one.told) for one in connections) < 30
        rate = 1_000.0
        await asyncio.sleep(2)
        assert letting_go.done()

    virtual_time.run(play())
