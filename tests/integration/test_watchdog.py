"""A node whose event loop stands still, or that stands still as a whole: probes tell, its starter acts."""

import asyncio
import os
import signal
from pathlib import Path

from deploy.local.processes import wait_until
from tests.integration.serving.client import PATIENCE, Client
from tests.integration.serving.servers import Server, server
from tests.integration.test_as_a_pod import worker_of


def replaced(node: Server, pid: int) -> bool:
    """Whether gunicorn's worker is another one; for a moment there is none."""
    try:
        return worker_of(node) != pid
    except IndexError:
        return False


async def test_a_loop_that_stands_still_fails_liveness_and_a_loop_that_turns_again_mends_it(
    tmp_path: Path,
) -> None:
    with server() as node:
        async with await Client.connect(node.port, "/realtime/") as client:
            await client.hello()
            assert node.get(node.internal_port, "/livez") == (200, "live\n")
            pid = worker_of(node)
            blocking = client.send("block", file=str(tmp_path / "go on"))
            said = ""

            def stalled() -> bool:
                nonlocal said
                status, said = node.get(node.internal_port, "/livez")
                return status == 503

            assert await asyncio.to_thread(wait_until, stalled, PATIENCE)
            assert said.startswith("the event loop has not turned for ")
            assert node.status(node.internal_port, "/readyz") == 503
            assert node.status(node.internal_port, "/metrics") == 200
            (tmp_path / "go on").touch()
            await client.answer(blocking)
            assert await asyncio.to_thread(
                wait_until, lambda: node.status(node.internal_port, "/readyz") == 200, PATIENCE
            )
            assert worker_of(node) == pid


async def test_a_worker_that_stands_still_is_replaced_by_one_that_serves() -> None:
    # gunicorn.conf says 30 s: longer than a loop that is only late, and than the probes need to tell. Here it
    # has to be longer than a start on a busy machine: a worker that is not there by then is replaced, too.
    with server(GUNICORN_CMD_ARGS="--timeout 12") as node:
        stopped = worker_of(node)
        os.kill(stopped, signal.SIGSTOP)
        assert await asyncio.to_thread(wait_until, lambda: replaced(node, stopped), PATIENCE)
        assert await asyncio.to_thread(
            wait_until, lambda: node.status(node.internal_port, "/readyz") == 200, PATIENCE
        )
        async with await Client.connect(node.port, "/realtime/") as client:
            await client.hello()
            assert await client.command("echo", number=1) == {"number": 1}
