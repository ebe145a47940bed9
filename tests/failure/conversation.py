"""Brokers that talk to each other without a pause, and an account of what each one heard of whom."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from app.realtime.redis_broker import RedisBroker
from app.realtime.redis_connection import Address, Credentials, open_connection, pack
from tests.broker_contract import PATIENCE, eventually

EVERY_SECONDS = 0.01


class Speaker:
    """One broker that publishes 1, 2, 3 … under its name, every `EVERY_SECONDS`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.broker = RedisBroker()
        self.said: list[float] = []
        self.heard: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.states: list[bool] = []

    @asynccontextmanager
    async def speaking(self) -> AsyncIterator["Speaker"]:
        self.broker.start(self._hear, self.states.append)
        joined = self.broker.subscribe("conversation")
        task = asyncio.create_task(self._speak())
        try:
            await joined
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.broker.stop()

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            self.said.append(loop.time())
            assert self.broker.publish("conversation", f"{self.name} {number}".encode())
            await asyncio.sleep(EVERY_SECONDS)

    def _hear(self, messages: list[tuple[str, bytes]]) -> None:
        now = asyncio.get_running_loop().time()
        for _, data in messages:
            name, number = data.decode().split()
            self.heard[name].append((int(number), now))


class Conversation:
    def __init__(self) -> None:
        self.speakers: list[Speaker] = []
        self._stack = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def of(cls, *names: str) -> AsyncIterator["Conversation"]:
        conversation = cls()
        async with conversation._stack:
            for name in names:
                await conversation.add(name)
            yield conversation

    async def add(self, name: str) -> Speaker:
        speaker = await self._stack.enter_async_context(Speaker(name).speaking())
        self.speakers.append(speaker)
        return speaker

    def pairs(self) -> list[tuple[Speaker, Speaker]]:
        return list(itertools.product(self.speakers, self.speakers))

    async def all_hear_all_from(self, moment: float) -> float:
        """Wait until everybody heard from everybody what was said after `moment`. Returns when that was."""

        def first_heard(listener: Speaker, speaker: Speaker) -> float | None:
            first = None
            for number, at in reversed(listener.heard[speaker.name]):
                if speaker.said[number - 1] <= moment:
                    break
                first = at
            return first

        await eventually(
            lambda: all(first_heard(*pair) for pair in self.pairs()), "everybody hears everybody again"
        )
        return max(first_heard(*pair) or 0.0 for pair in self.pairs())

    def check_order(self) -> None:
        """Nobody heard anything twice or out of order."""
        for listener, speaker in self.pairs():
            numbers = [number for number, _ in listener.heard[speaker.name]]
            assert all(one < two for one, two in itertools.pairwise(numbers)), (listener.name, speaker.name)

    async def lost_between(self, start: float, end: float) -> int:
        """How many of what was said from `start` to `end` somebody did not hear; outside of that all must be.

        What a speaker said before a listener heard it for the first time does not count.
        """
        until = asyncio.get_running_loop().time()
        await self.all_hear_all_from(until)
        lost = set()
        for listener, speaker in self.pairs():
            numbers = {number for number, _ in listener.heard[speaker.name]}
            for number in range(min(numbers), len(speaker.said) + 1):
                said = speaker.said[number - 1]
                if number not in numbers and said < until:
                    assert start <= said <= end, (
                        f"{listener.name} missed {speaker.name} {number}, said {said - start:+.3f} s "
                        f"after the fault, {said - end:+.3f} s after the end of the outage"
                    )
                    lost.add((speaker.name, number))
        return len(lost)


@asynccontextmanager
async def promotions(sentinels: list[Address]) -> AsyncIterator[Callable[[], float | None]]:
    """Gives a function that says when the first Sentinel had promoted another primary (the loop's time)."""
    moments: list[float] = []
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for address in sentinels:
            connection = await open_connection(
                address, Credentials("promotions"), PATIENCE, lambda _: moments.append(loop.time())
            )
            stack.callback(connection.abort, "closed")
            await connection.send(pack("SUBSCRIBE", "+promoted-slave", "+switch-master"), 2, by_push=True)
        yield lambda: moments[0] if moments else None
