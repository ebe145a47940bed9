"""`run_worker` as a process of its own, on real Redis servers."""

import asyncio
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.realtime.task_queue import TaskQueue
from deploy.local.guardian import Guardian
from deploy.local.plan import PROJECT_FOLDER
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import Process, wait_until
from deploy.local.redis_servers import RedisServers
from tests.channel_layer_settings import channel_layers_for, environment_for
from tests.integration.serving.servers import Server

PATIENCE = 60.0
MANAGE = [sys.executable, "-m", "app.manage"]


class Worker(Server):
    """A worker process, ready when it is made: it answers on its internal port as a node does."""

    def __init__(self, guardian: Guardian, environment: dict[str, str], arguments: list[str]) -> None:
        [self.internal_port] = free_ports(1)
        self.log = []
        self.process = Process(
            "worker",
            [*MANAGE, *arguments],
            guardian,
            environment=environment | {"INTERNAL_PORT": str(self.internal_port)},
            cwd=PROJECT_FOLDER,
            on_line=lambda _, line: self.log.append(line),
        )

    def wait_until_ready(self) -> None:
        assert wait_until(
            lambda: self.status(self.internal_port, "/readyz") == 200 or not self.process.alive, PATIENCE
        )
        assert self.process.alive, self.process.tail()


class Place:
    """Where workers run: a Redis, a prefix of this test's own, a file for notes."""

    def __init__(self, servers: RedisServers, folder: Path, guardian: Guardian) -> None:
        self.servers = servers
        self.prefix = f"{secrets.token_hex(4)}:"
        self.notes_file = folder / "notes"
        self.guardian = guardian
        self.environment = environment_for("fanout", servers) | {
            "DJANGO_SETTINGS_MODULE": "tests.integration.tasks.settings",
            "DATA_FOLDER": str(folder),
            "REDIS_PREFIX": self.prefix,
            "NOTES": str(self.notes_file),
            "SHUTDOWN_SECONDS": "5",
            "LOG_LEVEL": "INFO",
        }
        layers = channel_layers_for("fanout", servers, REDIS_PREFIX=self.prefix)
        self.queue = TaskQueue(**layers["tasks"]["CONFIG"])
        self.workers: list[Worker] = []

    def start(self, *channels: str, command: str = "run_worker", **environment: str) -> Worker:
        worker = Worker(self.guardian, self.environment | environment, [command, *channels])
        self.workers.append(worker)
        if command == "run_worker":
            worker.wait_until_ready()
        return worker

    async def send(self, kind: str, channel: str = "chores", **fields: Any) -> None:
        await self.queue.send(channel, {"type": kind, **fields})

    def notes(self) -> list[str]:
        return self.notes_file.read_text().splitlines() if self.notes_file.exists() else []

    async def until(self, condition: Callable[[], bool]) -> None:
        met = await asyncio.to_thread(wait_until, condition, PATIENCE)
        assert met, (self.notes(), [worker.log for worker in self.workers])


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    one = Guardian()
    yield one
    one.close()


@pytest.fixture
async def place(redis_servers: RedisServers, tmp_path: Path, guardian: Guardian) -> AsyncIterator[Place]:
    place = Place(redis_servers, tmp_path, guardian)
    yield place
    for worker in place.workers:
        worker.process.kill()
    await place.queue.flush()


async def test_a_task_that_fails_is_counted_and_logged_once_and_the_next_is_done(place: Place) -> None:
    worker = place.start("chores")
    _, page = worker.get(worker.internal_port, "/metrics")
    for outcome in ("failed", "cut_off"):  # of what the schedule sends, something may be done already
        assert f'carillon_tasks_total{{channel="chores",outcome="{outcome}"}} 0.0' in page, "before any task"
    await place.send("fail")
    await place.send("note.down", text="still here")
    await place.until(lambda: "still here" in place.notes())
    await place.until(lambda: worker.metric('carillon_tasks_total{channel="chores",outcome="done"}') >= 1)
    assert worker.metric('carillon_tasks_total{channel="chores",outcome="failed"}') == 1
    assert worker.metric('carillon_task_seconds_count{channel="chores"}') >= 2
    assert sum("RuntimeError: this task always" in line for line in worker.log) == 1


async def test_a_worker_that_is_told_to_stop_finishes_the_task_in_hand_and_leaves_the_rest(
    place: Place,
) -> None:
    worker = place.start("chores")
    await place.send("take.long", text="bread", seconds=2)
    await place.until(lambda: "bread begins" in place.notes())
    await place.send("note.down", text="for the next one")
    worker.process.terminate()
    await place.until(lambda: worker.status(worker.internal_port, "/readyz") == 503)
    assert worker.status(worker.internal_port, "/livez") == 200
    assert worker.process.wait(PATIENCE) == 0
    assert "bread ends" in place.notes() and "for the next one" not in place.notes()
    place.start("chores")
    await place.until(lambda: "for the next one" in place.notes())


@pytest.mark.parametrize("channel", ["chores", "stubborn"])
async def test_a_task_that_takes_longer_than_the_stop_may_is_cut_off_and_said(
    place: Place, channel: str
) -> None:
    worker = place.start(channel, SHUTDOWN_SECONDS="0.5")
    await place.send("take.long", channel, text="a cathedral", seconds=3600)
    await place.until(lambda: "a cathedral begins" in place.notes())
    worker.process.terminate()
    assert worker.process.wait(PATIENCE) == 1
    assert any("'take.long' of '" in line and "was cut off" in line for line in worker.log)


async def test_an_idle_worker_leaves_at_once(place: Place) -> None:
    worker = place.start()
    worker.process.terminate()
    assert worker.process.wait(PATIENCE) == 0
    assert not any("Traceback" in line or "Exception" in line for line in worker.log), worker.log


async def test_a_worker_starts_and_ends_in_order_although_redis_is_away(place: Place) -> None:
    worker = place.start(REDIS_SENTINELS="", REDIS_ADDRESS=f"{HOST}:1")
    await place.until(lambda: any("the task queue is away" in line for line in worker.log))
    worker.process.terminate()
    assert worker.process.wait(PATIENCE) == 0
    assert not any("Traceback" in line for line in worker.log), worker.log


async def test_what_is_due_is_done_once_however_many_workers_there_are(place: Place) -> None:
    for _ in range(3):
        place.start()
    await place.until(lambda: place.notes().count("again") >= 3)
    assert place.notes().count("scheduled") == 1


async def test_what_is_due_again_is_done_again(place: Place) -> None:
    place.start("idle")
    await place.until(lambda: place.notes().count("again") >= 2)


async def test_a_worker_outlives_its_redis(
    disturbable_redis: RedisServers, tmp_path: Path, guardian: Guardian
) -> None:
    place = Place(disturbable_redis, tmp_path, guardian)
    worker = place.start("chores")
    previous = await asyncio.to_thread(disturbable_redis.primary_address)
    await asyncio.to_thread(disturbable_redis.kill, "primary")
    await asyncio.to_thread(disturbable_redis.wait_until_promoted, previous)
    await place.send("note.down", text="after the failover")
    await place.until(lambda: "after the failover" in place.notes())
    assert worker.status(worker.internal_port, "/readyz") == 200
    worker.process.kill()
    await place.queue.close_pools()


async def test_the_stock_worker_runs_the_same_consumers(place: Place) -> None:
    place.start("chores", command="runworker")
    await place.send("note.down", text="as ever")
    await place.until(lambda: "as ever" in place.notes())


async def test_expired_sessions_are_purged_and_no_others(place: Place, tmp_path: Path) -> None:
    environment = place.environment | {"DJANGO_SETTINGS_MODULE": "app.settings"}
    migrate = [*MANAGE, "migrate", "--no-input", "--verbosity", "0"]
    await asyncio.to_thread(subprocess.run, migrate, cwd=PROJECT_FOLDER, env=environment, check=True)
    file = tmp_path / "carillon.sqlite3"
    with sqlite3.connect(file) as database:
        for key, until in (("old", "2020-01-01"), ("good", "2999-01-01")):
            database.execute("INSERT INTO django_session VALUES (?, '', ?)", (key, until))

    def keys() -> list[str]:
        with sqlite3.connect(file, timeout=PATIENCE) as database:
            found = database.execute("SELECT session_key FROM django_session").fetchall()
        database.close()
        return [key for (key,) in found]

    database.close()
    place.start(DJANGO_SETTINGS_MODULE="app.settings")
    await place.until(lambda: keys() == ["good"])


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (["pigeons"], {}, "no consumer for 'pigeons': expected one of chores, stubborn, idle"),
        ([], {"REDIS_SENTINELS": ""}, "without Redis no task leaves the process that sends it"),
    ],
)
def test_a_worker_that_cannot_work_says_why_in_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], line: str
) -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.integration.tasks.settings", "DATA_FOLDER": str(tmp_path)}
    done = subprocess.run(
        [*MANAGE, "run_worker", *arguments],
        cwd=PROJECT_FOLDER,
        env=os.environ | settings | {"INTERNAL_HOST": HOST} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert line in said and "Traceback" not in done.stderr
