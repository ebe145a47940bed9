"""The node's life within a server's: it joins the bus before the first connection, leaves after the last."""

from collections.abc import Awaitable, Callable
from typing import Any

from app.database.outage import outage
from app.journal.journal import journal_of
from app.realtime.node import current_node, stop_node


async def lifespan(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """ASGI lifespan. A bus that is away fails nothing: the node starts and heals by itself."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            outage.watch()
            journal_of(current_node())
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await stop_node()
            await send({"type": "lifespan.shutdown.complete"})
            return
