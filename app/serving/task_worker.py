"""Runs the tasks of named channels: one of each channel at a time, taken when the one before is done.

Channels' own worker empties the queue into its memory: what waits there is lost when it ends, and nobody else
can take it. This one never has more than the task in hand.
"""

import asyncio
import logging
import time
from asyncio import Task
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from channels.exceptions import ChannelFull

from app.observability import metrics
from app.observability.health import health
from app.realtime.broker import BusUnavailable
from app.realtime.task_queue import TaskQueue

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
"""How often the worker says that it lives, and looks at the schedule."""

CANCEL_SECONDS: Final = 1.0
"""How long tasks that were cut off may take to end. A thread does not end when it is told to."""

Application = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Any]


class TaskWorker:
    """`application` gets a scope of type `channel` for each of `channels`, as from Channels' own worker.

    `schedule` has what is sent without being asked for, as in TASK_SCHEDULE.
    """

    def __init__(
        self,
        application: Application,
        channels: Sequence[str],
        queue: TaskQueue,
        schedule: Iterable[dict[str, Any]] = (),
    ) -> None:
        self._application = application
        self._channels = channels
        metrics.appear(metrics.tasks, channels, ("done", "failed", "cut_off"))
        metrics.appear(metrics.task_seconds, channels)
        self._queue = queue
        self._schedule = list(schedule)
        self._in_hand: dict[str, tuple[str, float]] = {}
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def stop(self) -> None:
        """Take no other task."""
        health.accepting = False
        self._stopping.set()

    async def run(self, shutdown_seconds: float) -> bool:
        """Work until `stop`, then finish what is in hand. False: it took too long and was cut off.

        Raises what is wrong with the worker itself, never what a task raised.
        """
        tasks = [asyncio.create_task(self._serve(channel)) for channel in self._channels]
        tasks += [asyncio.create_task(self._beat()), asyncio.create_task(self._send_scheduled())]
        health.accepting = True
        stopping = asyncio.create_task(self._stopping.wait())
        ended, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        try:
            async with asyncio.timeout(shutdown_seconds):
                await self._idle.wait()
        except TimeoutError:
            for channel, (kind, _) in self._in_hand.items():
                metrics.tasks.labels(channel, "cut_off").inc()
                logger.error("%r of %r was cut off: not done %g s later", kind, channel, shutdown_seconds)
        finished = not self._in_hand
        await _cancel(tasks)
        return finished

    async def _serve(self, channel: str) -> None:
        """One application after the other: each lives until a task of it fails."""
        while True:
            try:
                await self._application(
                    {"type": "channel", "channel": channel}, partial(self._receive, channel), _send
                )
            except Exception:
                kind, began = self._in_hand.pop(channel, ("", 0.0))
                if kind:
                    metrics.tasks.labels(channel, "failed").inc()
                    metrics.task_seconds.labels(channel).observe(time.monotonic() - began)
                    logger.exception("%r of %r failed", kind, channel)
                    self._look_idle()
                else:
                    logger.exception("the consumer of %r failed without a task", channel)
                    await asyncio.sleep(TICK_SECONDS)

    async def _receive(self, channel: str) -> dict[str, Any]:
        """The application's `receive`. That it asks for another task says that it is done with the last."""
        done = self._in_hand.pop(channel, None)
        if done is not None:
            metrics.tasks.labels(channel, "done").inc()
            metrics.task_seconds.labels(channel).observe(time.monotonic() - done[1])
            self._look_idle()
        if self._stopping.is_set():
            await asyncio.get_running_loop().create_future()
        message = await self._queue.receive(channel)
        self._in_hand[channel] = str(message.get("type")), time.monotonic()
        self._idle.clear()
        return message

    def _look_idle(self) -> None:
        if not self._in_hand:
            self._idle.set()

    async def _beat(self) -> None:
        while True:
            health.beat()
            await asyncio.sleep(TICK_SECONDS)

    async def _send_scheduled(self) -> None:
        """Every worker tries, in every period; the queue says who was first."""
        sent: dict[int, int] = {}
        while True:
            for number, entry in enumerate(self._schedule):
                period = int(time.time() // entry["seconds"])
                if sent.get(number) == period:
                    continue
                name = f"{entry['channel']}.{entry['type']}.{period}"
                try:
                    if await self._queue.claim(name, entry["seconds"]):
                        await self._queue.send(entry["channel"], {"type": entry["type"]})
                except BusUnavailable:
                    continue  # the queue says that it is away: the next tick tries again
                except ChannelFull:
                    logger.warning(
                        "%r was not sent: the queue of %r is full", entry["type"], entry["channel"]
                    )
                sent[number] = period
            await asyncio.sleep(TICK_SECONDS)


async def _send(message: Any) -> None:
    """The application's `send`: nobody is there to hear it."""
    raise RuntimeError(f"a task has nobody to send {message!r} to: use the channel layer")


async def _cancel(tasks: "list[Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
