"""What goes wrong between clients and nodes: each fault once, as early as it can be planted."""

import json
from typing import Any

from tests.load.frame_proxy import Tamper


class Frames(Tamper):
    """Calls `plant` once for each of `faults`, each on another connection, with somebody else's message."""

    def __init__(self, *faults: str) -> None:
        self._waiting = list(faults)
        self._links: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._held: dict[int, bytes] = {}

    @property
    def done(self) -> bool:
        """All were planted."""
        return not self._waiting and not self._held

    def to_client(self, link: int, payload: bytes) -> list[bytes]:
        event: dict[str, Any] = json.loads(payload)
        if event.get("event") == "hello" and "user" in event["data"]:
            self._names[link] = event["data"]["user"]["name"]
        if (
            event.get("event") != "chat.message_posted"
            or event["data"]["sender"]["name"] == self._names[link]
        ):
            return [payload]
        if link in self._held:
            return [payload, self._held.pop(link)]
        if link in self._links or not self._waiting:
            return [payload]
        fault = self._links[link] = self._waiting.pop()
        return self._plant(fault, link, payload)

    def _plant(self, fault: str, link: int, payload: bytes) -> list[bytes]:
        match fault:
            case "dropped":
                return []
            case "doubled":
                return [payload, payload]
            case "altered":
                return [payload.replace(b'"text":"load', b'"text":"l0ad')]
            case "swapped":
                self._held[link] = payload
                return []
        raise AssertionError(fault)


class Mute(Tamper):
    """What one person says does not reach any node: `what` is the command that is kept back."""

    def __init__(self, what: bytes) -> None:
        self._what = what
        self._link = 0

    def to_node(self, link: int, payload: bytes) -> list[bytes]:
        if self._what not in payload or self._link not in (0, link):
            return [payload]
        self._link = link
        return []
