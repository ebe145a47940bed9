"""A database of streams, a bus that the test plays, and connections that note what they get."""

import asyncio
from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.realtime import envelope
from app.realtime.broker import Broker, Deliver, StateChanged
from app.realtime.connection import Batch
from app.realtime.envelope import StreamEnvelope
from app.realtime.event import EncodedEvent
from app.realtime.stream import StreamEvent, StreamRead


@dataclass
class Stored:
    """One stream as the database has it."""

    epoch: int = 1
    floor: int = 0
    last: int = 0
    events: dict[int, StreamEvent] = field(default_factory=dict)


class Database:
    """What is stored, and how often it was asked."""

    def __init__(self, *streams: str) -> None:
        self.streams = {name: Stored() for name in streams}
        self.asked: list[dict[str, int]] = []
        self.limits: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.seconds = 0.0

    def store(self, stream: str, removes: str = "") -> StreamEvent:
        """One event more in `stream`."""
        stored = self.streams[stream]
        stored.last += 1
        payload = msgspec.json.encode({"event": "test.said", "data": {"epoch": stored.epoch}})
        event = StreamEvent(stored.epoch, stored.last, payload, removes)
        stored.events[stored.last] = event
        return event

    def purge(self, stream: str, floor: int) -> None:
        stored = self.streams[stream]
        stored.floor = max(stored.floor, floor)
        stored.events = {number: event for number, event in stored.events.items() if number > stored.floor}

    def look(self, asked: Mapping[str, int], limit: int, size: int = 2**53) -> dict[str, StreamRead]:
        """The answer as of now."""
        there = {name: self.streams[name] for name in asked if name in self.streams}
        answer = {name: StreamRead(one.epoch, one.floor, one.last, []) for name, one in there.items()}
        for step in range(1, max((one.last for one in there.values()), default=0) + 1):
            for name, stored in there.items():
                event = stored.events.get(asked[name] + step)
                if event is not None and step <= limit and size > 0:
                    answer[name].events.append(event)
                    size -= len(event.payload)
        return answer

    async def read(self, asked: Mapping[str, int], limit: int, size: int) -> dict[str, StreamRead]:
        """The answer as of the moment of asking; it comes when the gate is open."""
        self.asked.append(dict(asked))
        self.limits.append(limit)
        answer = self.look(asked, limit, size)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return answer


class PlayedBus(Broker):
    """Notes what the node publishes; the test says what arrives, and when a subscription is confirmed."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.subscriptions: dict[str, Future[None]] = {}
        self.confirms = True
        self.up = True

    def start(self, deliver: Deliver, state_changed: StateChanged) -> None:
        self._deliver = deliver
        self._state_changed = state_changed

    async def stop(self) -> None:
        self.up = False

    @property
    def connected(self) -> bool:
        return self.up

    def publish(self, group: str, data: bytes) -> bool:
        self.published.append((group, data))
        return True

    def subscribe(self, group: str) -> "Future[None]":
        confirmed = self.subscriptions.setdefault(group, asyncio.get_running_loop().create_future())
        if self.confirms and not confirmed.done():
            confirmed.set_result(None)
        return asyncio.shield(confirmed)

    def unsubscribe(self, group: str) -> None:
        del self.subscriptions[group]

    async def flush(self, timeout: float) -> None:
        await asyncio.sleep(0)

    def brings(self, stream: str, *events: StreamEvent) -> None:
        """Another node published `events`."""
        self._deliver([(stream, envelope.pack(StreamEnvelope(b"anothers", 1, event))) for event in events])

    def turns(self, up: bool) -> None:
        self.up = up
        self._state_changed(up)

    def events(self) -> list[tuple[str, StreamEvent]]:
        """What the node published of streams."""
        unpacked = ((group, envelope.unpack(data)) for group, data in self.published)
        return [(group, found.event) for group, found in unpacked if isinstance(found, StreamEnvelope)]


class Client:
    """A connection; `got` has the sequences, or the name of an event without one."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.encoded: list[EncodedEvent] = []

    def deliver(self, batch: Batch) -> None:
        self.encoded += batch.events
        self.frames += [msgspec.json.decode(event.payload) for event in batch.events]

    @property
    def got(self) -> list[int | str]:
        return [frame.get("sequence", frame["event"]) for frame in self.frames]
