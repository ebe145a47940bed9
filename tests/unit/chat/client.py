"""A client of the chat consumers, over the path that any ASGI server offers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator

from app.journal.keys import new_key
from app.realtime.identity import Identity
from app.routing import websocket_urlpatterns

ADA: Final = Identity("u1", "ada")
BOB: Final = Identity("g2", "bob", guest=True)
EVE: Final = Identity("u3", "eve")


class Client:
    """One connection: commands as calls, everything else in `events`."""

    def __init__(self, communicator: WebsocketCommunicator) -> None:
        self.events: list[dict[str, Any]] = []
        self._communicator = communicator
        self._last_id = 0

    async def command(self, name: str, /, **data: Any) -> Any:
        """The reply, or the error with its code."""
        self._last_id += 1
        await self._communicator.send_json_to({"id": self._last_id, "command": name, "data": data})
        while True:
            frame = await self._communicator.receive_json_from(5)
            if frame.get("id") == self._last_id:
                return frame.get("reply", frame.get("error"))
            self.events.append(frame)

    async def post(self, text: str, room: str = "lobby") -> Any:
        return await self.command("chat.post_message", room=room, key=str(new_key()), text=text)

    def names(self, prefix: str = "") -> list[str]:
        """The names of the events that came and were not asked for, in order."""
        names = [frame["event"] for frame in self.events if "event" in frame]
        return [name for name in names if name.startswith(prefix)]

    async def do(self, name: str, /, **data: Any) -> Any:
        """The reply to a command that changes something, under a new key."""
        return await self.command(name, **{"room": "lobby", "key": str(new_key())} | data)

    async def everything(self) -> list[dict[str, Any]]:
        """Chat's events so far, of which none is on its way any more: (name, sequence, …)."""
        await self.command("ping")
        return [frame for frame in self.events if frame.get("event", "").startswith(("chat.", "stream."))]

    async def event(self, name: str) -> Any:
        """The data of the next event of this name; others are kept."""
        while True:
            for frame in self.events:
                if frame.get("event") == name:
                    self.events.remove(frame)
                    return frame["data"]
            self.events.append(await self._communicator.receive_json_from(5))


@asynccontextmanager
async def client(
    person: Identity, path: str = "/realtime/", doors: list[Any] = websocket_urlpatterns
) -> AsyncIterator[Client]:
    """`person`, connected."""
    router = URLRouter(doors)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await router({**scope, "identity": person}, receive, send)

    communicator = WebsocketCommunicator(application, path, subprotocols=["carillon.v1"])
    connected, subprotocol = await communicator.connect()
    assert (connected, subprotocol) == (True, "carillon.v1")
    try:
        yield Client(communicator)
    finally:
        await communicator.disconnect()
