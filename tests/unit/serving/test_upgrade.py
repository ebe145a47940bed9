"""Upgrades on the fast path: real requests through uvicorn's parser, on a transport that writes nowhere."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pytest_django import Settings
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Opcode

from app.realtime.consumers import DIRECT_EXTENSION
from app.serving.direct_connection import CONTROL_FRAMES_ALLOWED, FRAGMENTS_ALLOWED, DirectConnection
from app.serving.http_protocol import HttpProtocol, StockWebSocketProtocol
from tests.unit.serving.transport import FakeTransport, Receiver, from_client, parse

Application = Callable[[Any, Any, Any], Awaitable[None]]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT_OF_KEY = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


class Accepting:
    """An application that takes the direct connection at once."""

    def __init__(self, subprotocol: str | None = None) -> None:
        self.subprotocol = subprotocol
        self.receiver = Receiver()
        self.scope: dict[str, Any] = {}
        self.connection: DirectConnection

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.connection = scope["extensions"][DIRECT_EXTENSION].accept(
            self.receiver, self.subprotocol, b"hello"
        )


class Client:
    """One HTTP connection to `application`, seen from its far end."""

    def __init__(self, application: Application) -> None:
        async def loaded(scope: Any, receive: Any, send: Any) -> None:
            await application(scope, receive, send)

        config = Config(
            app=loaded,
            ws=StockWebSocketProtocol,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            server_header=False,
            date_header=False,
        )
        config.load()
        self.state = ServerState()
        self.transport = FakeTransport()
        http = HttpProtocol(config, self.state, {})
        self.transport.set_protocol(http)
        http.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        assert self.transport.reading
        self.transport.protocol.data_received(data)

    async def ended(self) -> None:
        """Wait until the application has ended."""
        async with asyncio.timeout(10):
            while self.state.tasks:
                await asyncio.wait(set(self.state.tasks))
                await asyncio.sleep(0)

    async def answer(self) -> tuple[str, dict[str, str], bytes]:
        """Status line, headers and what follows, as soon as the application has ended."""
        await self.ended()
        head, _, rest = b"".join(self.transport.written).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = [line.split(": ", 1) for line in lines]
        names = [name.lower() for name, _ in fields]
        assert len(names) == len(set(names)), "a header was sent twice"
        return status, dict(zip(names, (value for _, value in fields), strict=True)), rest


def upgrade(path: str = "/realtime/", method: str = "GET", **fields: str | None) -> bytes:
    """An upgrade request; a keyword adds or replaces a header, None leaves it out."""
    headers: dict[str, str | None] = {
        "host": "example.test",
        "connection": "keep-alive, Upgrade",
        "upgrade": "WebSocket",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
    }
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


async def test_the_answer_is_101_and_hello_is_in_the_same_write() -> None:
    client = Client(Accepting())
    client.send(upgrade())
    status, fields, rest = await client.answer()
    assert status == "HTTP/1.1 101 Switching Protocols"
    assert fields["upgrade"] == "websocket"
    assert fields["connection"] == "Upgrade"
    assert fields["sec-websocket-accept"] == ACCEPT_OF_KEY
    assert "sec-websocket-protocol" not in fields
    assert [bytes(frame.data) for frame in parse(rest)] == [b"hello"]
    assert len(client.transport.written) == 1


async def test_the_subprotocol_chosen_is_named() -> None:
    application = Accepting("carillon.v1")
    client = Client(application)
    client.send(upgrade(sec_websocket_protocol="other, carillon.v1"))
    _, fields, _ = await client.answer()
    assert fields["sec-websocket-protocol"] == "carillon.v1"
    assert application.scope["subprotocols"] == ["other", "carillon.v1"]


async def test_subprotocols_in_two_headers_are_all_offered() -> None:
    application = Accepting()
    client = Client(application)
    twice = b"sec-websocket-protocol: carillon.v1\r\nSec-WebSocket-Protocol: carillon.ticket.x\r\n\r\n"
    client.send(upgrade()[:-2] + twice)
    await client.answer()
    assert application.scope["subprotocols"] == ["carillon.v1", "carillon.ticket.x"]


async def test_the_scope_says_what_was_asked_for() -> None:
    application = Accepting()
    client = Client(application)
    client.send(upgrade("/realtime/rooms/caf%C3%A9/?a=1&b=%20", origin="https://example.test"))
    await client.answer()
    scope = application.scope
    assert scope["type"] == "websocket"
    assert scope["path"] == "/realtime/rooms/café/"
    assert scope["raw_path"] == b"/realtime/rooms/caf%C3%A9/"
    assert scope["query_string"] == b"a=1&b=%20"
    assert (b"origin", b"https://example.test") in scope["headers"]
    assert scope["subprotocols"] == []


async def test_the_connection_is_the_servers_until_it_is_lost() -> None:
    application = Accepting()
    client = Client(application)
    client.send(upgrade())
    await client.answer()
    assert list(map(id, client.state.connections)) == [id(application.connection)]
    client.transport.protocol.connection_lost(None)
    assert client.state.connections == set()
    assert application.receiver.lost == [1006]


# What a client says too early ----------------------------------------------------------------------------


async def test_what_came_in_one_read_with_the_request_is_not_lost() -> None:
    application = Accepting()
    client = Client(application)
    client.send(upgrade() + from_client(Opcode.TEXT, b"early"))
    await client.answer()
    await asyncio.sleep(0)
    assert application.receiver.received == [b"early"]


async def test_what_came_before_the_answer_is_not_lost_and_stays_in_order() -> None:
    application = Accepting()
    client = Client(application)
    client.send(upgrade())
    client.send(from_client(Opcode.TEXT, b"early"))
    assert not client.transport.reading, "what comes next must wait until this has been handed over"
    await client.answer()
    await asyncio.sleep(0)
    client.send(from_client(Opcode.TEXT, b"late"))
    assert application.receiver.received == [b"early", b"late"]


async def test_what_came_early_is_dropped_with_a_connection_that_is_gone() -> None:
    application = Accepting()

    async def accept_and_lose(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)
        client.transport.closed = True
        client.transport.protocol.connection_lost(None)

    client = Client(accept_and_lose)
    client.send(upgrade() + from_client(Opcode.TEXT, b"early"))
    await client.answer()
    await asyncio.sleep(0)
    assert application.receiver.lost == [1006]
    assert application.receiver.received == []


# Refusals ------------------------------------------------------------------------------------------------


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"9"), (b"connection", b"close")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"no ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"ticket"})
    assert (await receive())["type"] == "websocket.disconnect"


async def test_a_refusal_is_an_http_answer() -> None:
    client = Client(refuse)
    client.send(upgrade())
    status, fields, body = await client.answer()
    assert status == "HTTP/1.1 401 Unauthorized"
    assert fields == {"content-type": "text/plain", "content-length": "9", "connection": "close"}
    assert body == b"no ticket"
    assert client.transport.closed


async def test_a_close_before_accept_is_403() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    client = Client(application)
    client.send(upgrade())
    status, fields, body = await client.answer()
    assert status == "HTTP/1.1 403 Forbidden"
    assert (fields["content-length"], body) == ("0", b"")
    assert client.transport.closed


async def test_a_status_without_a_phrase_is_sent_too() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 499})
        await send({"type": "websocket.http.response.body"})

    client = Client(application)
    client.send(upgrade())
    status, _, _ = await client.answer()
    assert status == "HTTP/1.1 499 "


async def test_an_application_that_fails_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a bug")

    client = Client(application)
    client.send(upgrade())
    status, _, _ = await client.answer()
    assert status == "HTTP/1.1 500 Internal Server Error"
    assert "a bug" in caplog.text


async def test_an_address_writes_no_line_of_its_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a bug")

    client = Client(application)
    client.send(upgrade("/realtime/%0AINFO%20forged%1B"))
    await client.answer()
    (record,) = caplog.records
    assert record.getMessage().isprintable()


async def test_an_application_that_says_nothing_is_500() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        pass

    client = Client(application)
    client.send(upgrade())
    status, _, _ = await client.answer()
    assert status == "HTTP/1.1 500 Internal Server Error"


async def test_an_application_that_fails_after_accept_closes_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][DIRECT_EXTENSION].accept(Receiver(), None, b"hello")
        raise RuntimeError("a bug")

    client = Client(application)
    client.send(upgrade())
    _, _, rest = await client.answer()
    assert [frame.opcode for frame in parse(rest)] == [Opcode.TEXT, Opcode.CLOSE]
    assert bytes(parse(rest)[-1].data)[:2] == (1011).to_bytes(2, "big")
    assert "a bug" in caplog.text


async def test_a_stock_consumer_under_the_fast_path_is_told_where_it_belongs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    client = Client(application)
    client.send(upgrade())
    status, _, _ = await client.answer()
    assert status == "HTTP/1.1 500 Internal Server Error"
    assert "Stock consumers are mounted outside of /realtime/" in caplog.text


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (upgrade(sec_websocket_version="8"), "426 Upgrade Required"),
        (upgrade(sec_websocket_version=None), "426 Upgrade Required"),
        (upgrade(sec_websocket_key=None), "400 Bad Request"),
        (upgrade(sec_websocket_key="short"), "400 Bad Request"),
        (upgrade(method="POST"), "400 Bad Request"),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), "400 Bad Request"),
        (upgrade(content_length="5") + b"abcde", "400 Bad Request"),
        (upgrade(transfer_encoding="chunked") + b"0\r\n\r\n", "400 Bad Request"),
    ],
)
async def test_what_is_not_an_upgrade_we_speak_never_reaches_the_application(
    request_: bytes, expected: str
) -> None:
    application = Accepting()
    client = Client(application)
    client.send(request_)
    status, fields, body = await client.answer()
    assert status == f"HTTP/1.1 {expected}"
    assert int(fields["content-length"]) == len(body) > 0
    assert fields["connection"] == "close"
    assert fields.get("sec-websocket-version", "13") == "13"
    assert client.transport.closed
    assert application.scope == {}


async def test_a_client_that_goes_before_the_answer_cancels_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[BaseException] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    client = Client(application)
    client.send(upgrade())
    await asyncio.sleep(0)
    client.transport.closed = True
    client.transport.protocol.connection_lost(None)
    await client.answer()
    assert len(ended) == 1
    assert client.transport.written == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_upgrade_behind_an_unanswered_request_is_refused() -> None:
    go_on = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await go_on.wait()

    client = Client(application)
    client.send(b"GET /slow HTTP/1.1\r\nhost: example.test\r\n\r\n")
    client.send(upgrade())
    assert client.transport.closed
    assert b"400 Bad Request" in client.transport.written[0]
    client.transport.protocol.connection_lost(None)
    go_on.set()
    await client.answer()


# Everything else is uvicorn's ----------------------------------------------------------------------------


async def test_another_path_is_uvicorns_own_and_offers_no_direct_connection() -> None:
    scopes: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    client = Client(application)
    client.send(upgrade("/stock/"))
    await client.answer()
    assert DIRECT_EXTENSION not in scopes[0]["extensions"]
    assert client.transport.written[0].startswith(b"HTTP/1.1 101 ")
    client.transport.protocol.connection_lost(None)


@pytest.mark.parametrize(
    ("first", "frame", "allowed", "code"),
    [
        (b"", from_client(Opcode.PING), CONTROL_FRAMES_ALLOWED, 4501),
        (b"", from_client(Opcode.PONG), CONTROL_FRAMES_ALLOWED, 4501),
        (
            from_client(Opcode.TEXT, fin=False),
            from_client(Opcode.CONT, fin=False),
            FRAGMENTS_ALLOWED - 1,
            1009,
        ),
    ],
    ids=["pings", "pongs", "fragments"],
)
async def test_a_stock_consumers_client_may_send_so_many_frames_that_say_nothing_and_no_more(
    first: bytes, frame: bytes, allowed: int, code: int
) -> None:
    got: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        got.append(await receive())

    client = Client(application)
    client.send(upgrade("/stock/"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    client.send(first + frame * allowed)
    assert not client.transport.closed
    client.transport.written.clear()
    client.send(frame * 10_000)
    assert client.transport.closed
    await client.ended()
    assert client.transport.close_codes() == [code]
    assert [message["code"] for message in got] == [code]
    client.transport.protocol.connection_lost(None)


async def leaves_at() -> float:
    accepting = Accepting()
    client = Client(accepting)
    client.send(upgrade())
    await client.answer()
    return accepting.connection.leaves_at


async def test_connections_of_one_moment_do_not_grow_old_in_one(settings: Settings) -> None:
    settings.CONNECTION_AGE_SECONDS = 3_600.0
    now = asyncio.get_running_loop().time()
    ages = [await leaves_at() - now for _ in range(50)]
    assert 2_880 <= min(ages) <= max(ages) <= 4_400
    assert max(ages) - min(ages) > 600


async def test_a_connection_stays_for_as_long_as_it_lasts_unless_it_is_said_otherwise() -> None:
    assert await leaves_at() == math.inf
