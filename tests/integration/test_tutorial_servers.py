"""The tutorials' consumers behind real servers: two nodes on two kinds of server, a worker, and a shell."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import Process, stop_all
from deploy.local.redis_servers import RedisServers
from tests.channel_layer_settings import environment_for

PROJECT = Path(__file__).parents[2]
APPLICATION = "tests.integration.tutorials.asgi:application"
SAY = """
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
async_to_sync(get_channel_layer().group_send)("room_lobby", {"type": "room.text", "text": "from the shell"})
async_to_sync(get_channel_layer().group_send)("room_lobby", {"type": "room.text", "text": "and again"})
"""


@dataclass
class Deployment:
    """A node on gunicorn with our worker, one on daphne, and a worker of the task queue."""

    environment: dict[str, str]
    ports: dict[str, int]

    async def open(self, node: str, path: str) -> ClientConnection:
        """A connection to one of the nodes; waits until it has started."""
        async with asyncio.timeout(90):
            while True:
                try:
                    return await connect(f"ws://{HOST}:{self.ports[node]}{path}", proxy=None)
                except OSError:
                    await asyncio.sleep(0.2)


@pytest.fixture(params=["fanout", "channels_redis"])
def deployment(
    request: pytest.FixtureRequest, redis_servers: RedisServers, tmp_path: Path
) -> Iterator[Deployment]:
    gunicorn, daphne = free_ports(2)
    environment = environment_for(request.param, redis_servers) | {
        "DJANGO_SETTINGS_MODULE": "tests.integration.tutorials.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path}/tutorials.sqlite3",
        "PUBLIC_PORT": str(gunicorn),
    }
    commands = {
        "gunicorn": ["gunicorn", "-c", "python:app.serving.gunicorn_conf", APPLICATION],
        "daphne": ["daphne", "-b", HOST, "-p", str(daphne), APPLICATION],
        "worker": ["app.manage", "runworker", "thumbnails"],
    }
    guardian = Guardian()
    processes = [
        Process(name, [sys.executable, "-m", *command], guardian, environment=environment, cwd=PROJECT)
        for name, command in commands.items()
    ]
    yield Deployment(environment, {"gunicorn": gunicorn, "daphne": daphne})
    tails = {process.name: process.tail for process in processes}
    alive = {process.name: process.alive for process in processes}
    stop_all(processes, 15)
    guardian.close()
    assert all(alive.values()), tails


async def heard(client: ClientConnection) -> Any:
    return await asyncio.wait_for(client.recv(), 30)


async def test_nodes_workers_and_shells_are_one_deployment(deployment: Deployment) -> None:
    ada = await deployment.open("gunicorn", "/rooms/lobby/")
    grace = await deployment.open("daphne", "/rooms/lobby/")
    for n, speaker in enumerate((ada, grace) * 5):
        await speaker.send(str(n))
        assert [await heard(ada), await heard(grace)] == [str(n), str(n)]

    done = await asyncio.to_thread(
        partial(subprocess.run, check=False),
        [sys.executable, "-W", "default::ResourceWarning", "-m", "app.manage", "shell", "-v0", "-c", SAY],
        env=deployment.environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    if deployment.environment["CHANNEL_LAYER"] == "fanout":
        assert "Error" not in done.stderr and "Warning" not in done.stderr, done.stderr
    for client in (ada, grace):
        assert [await heard(client), await heard(client)] == ["from the shell", "and again"]
        await client.close()

    there = await deployment.open("gunicorn", "/async-rooms/attic/")
    here = await deployment.open("daphne", "/async-rooms/attic/")
    channel, _ = json.loads(await heard(there))["channel"], await heard(here)
    await here.send(json.dumps({"to": channel, "text": "psst"}))
    assert json.loads(await heard(there))["text"] == "psst"

    door = await deployment.open("daphne", "/thumbnails/")
    await door.send(json.dumps({"id": 7}))
    answers = sorted([await heard(door), await heard(door)])
    assert [json.loads(answer) for answer in answers] == [{"everyone": 7}, {"made": 7}]
    for client in (here, there):
        assert json.loads(await heard(client)) == {"everyone": 7}
    for client in (here, there, door):
        await client.close()
