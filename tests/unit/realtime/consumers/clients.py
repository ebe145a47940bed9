"""Who is connected, with commands as calls."""

from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client import REGISTRY

from app.realtime.identity import Identity
from tests.unit.realtime.consumers.kinds import Consumer
from tests.unit.realtime.consumers.wires import Wire, until

ADA = Identity("u1", "ada")


class Client:
    """Commands as calls, by way of a wire."""

    def __init__(self, wire: Wire, consumer: Consumer) -> None:
        self.wire = wire
        self.consumer = consumer
        self._last_id = 0

    def send(self, name: str, text: str = "") -> int:
        """One command; returns its id."""
        self._last_id += 1
        data = {"text": text} if name != "ping" else {}
        self.wire.write(msgspec.json.encode({"id": self._last_id, "command": name, "data": data}))
        return self._last_id

    async def answer(self, command_id: int | None) -> dict[str, Any]:
        def answers() -> list[dict[str, Any]]:
            return [frame for frame in self.wire.frames if frame.get("id", 0) == command_id]

        await until(answers)
        return answers()[-1]

    async def command(self, name: str, text: str = "") -> dict[str, Any]:
        return await self.answer(self.send(name, text))

    async def refusal(self, frame: bytes) -> dict[str, Any]:
        """What comes back for a frame that is no command."""
        seen = len(self.wire.frames)
        self.wire.write(frame)
        await until(lambda: len(self.wire.frames) > seen)
        return self.wire.frames[-1]

    @property
    def answers(self) -> list[int]:
        return [frame["id"] for frame in self.wire.frames if "id" in frame]

    @property
    def said(self) -> list[str]:
        return [frame["data"]["text"] for frame in self.wire.frames if frame.get("event") == "test.said"]


Connect = Callable[..., Any]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0
