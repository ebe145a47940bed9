"""A connection of either kind, to the node of the test."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.realtime.node import Node, current_node
from tests.unit.realtime.consumers.clients import ADA, Client, Connect
from tests.unit.realtime.consumers.kinds import Consumer
from tests.unit.realtime.consumers.wires import DirectWire, MailboxWire, Wire


@pytest.fixture(params=[DirectWire, MailboxWire], ids=["direct", "mailbox"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connects as ADA; whatever is open at the end goes away."""
    wires: list[Wire] = []

    async def connect(kind: type[Consumer] = Consumer, **scope: Any) -> Client:
        made: list[Consumer] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            made.append(kind())
            await made[0]._open(scope, receive, send)

        wire: Wire = request.param()
        wires.append(wire)
        await wire.connect(application, {"identity": ADA, "subprotocols": [], "extensions": {}} | scope)
        return Client(wire, made[0])

    yield connect
    for wire in wires:
        await wire.lose(1001)


@pytest.fixture
async def node() -> Node:
    return current_node()
