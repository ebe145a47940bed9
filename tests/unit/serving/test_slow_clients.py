"""Clients that do not say what they want, and applications that do not answer."""

import asyncio
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from app.observability import metrics
from app.serving import http_protocol
from app.serving.deadlines import unfinished
from tests.unit.serving.test_upgrade import Accepting, Client, upgrade

REQUEST = b"GET / HTTP/1.1\r\nhost: example.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: example.test\r\ncontent-length: 5\r\n\r\n"


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """Other tests left their clients behind."""
    for _ in unfinished.begun_until(inf):
        pass
    yield
    for _ in unfinished.begun_until(inf):
        pass


def time_passes() -> None:
    for one in unfinished.begun_until(inf):
        one.out_of_time()


def counted(reason: str) -> float:
    value: float = metrics.connections_refused.labels(reason)._value.get()
    return value


async def hold(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def respond(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def begin_to_respond(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_who_says_nothing_is_cut_off_without_a_word() -> None:
    client = Client(hold)
    before = counted("slow")
    time_passes()
    assert client.transport.aborted
    assert client.transport.written == []
    assert counted("slow") == before + 1


@pytest.mark.parametrize("said", [REQUEST[:-2], upgrade()[:-2], b"GE", POST + b"abcd"])
async def test_who_does_not_end_the_request_is_told_so(said: bytes) -> None:
    client = Client(hold)
    client.send(said)
    time_passes()
    assert client.transport.closed
    assert b"".join(client.transport.written).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    client.transport.protocol.connection_lost(None)
    await asyncio.sleep(0)


@pytest.mark.parametrize("said", [REQUEST, POST + b"abcde"])
async def test_a_whole_request_may_take_as_long_as_it_takes(said: bytes) -> None:
    client = Client(begin_to_respond)
    client.send(said)
    await asyncio.sleep(0)
    time_passes()
    assert not client.transport.closed


async def test_an_answer_that_has_begun_is_no_place_for_another() -> None:
    client = Client(begin_to_respond)
    client.send(POST + b"a")
    await asyncio.sleep(0)
    written = list(client.transport.written)
    assert written
    time_passes()
    assert client.transport.aborted
    assert client.transport.written == written


@pytest.mark.parametrize("more", [b"\r\n", b"GET /", REQUEST + b"GET /"])
async def test_a_further_request_has_its_time_too(more: bytes) -> None:
    client = Client(respond)
    client.send(REQUEST)
    await client.ended()
    time_passes()
    assert not client.transport.closed, "who rests between two requests is uvicorn's business"
    client.send(more)
    await client.ended()
    time_passes()
    assert client.transport.closed


async def test_an_upgrade_that_nobody_answers_is_refused() -> None:
    client = Client(hold)
    client.send(upgrade())
    await asyncio.sleep(0)
    time_passes()
    status, fields, rest = await client.answer()
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert int(fields["retry-after"]) >= 1
    assert rest.startswith(b"unavailable: ")


@pytest.mark.parametrize("path", ["/realtime/", "/stock/"])
async def test_an_upgrade_that_was_answered_is_nobody_to_wait_for(path: str) -> None:
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    client = Client(Accepting() if path == "/realtime/" else accept)
    client.send(upgrade(path))
    await asyncio.sleep(0)
    assert not len(unfinished)
    client.transport.protocol.connection_lost(None)
    await client.ended()


async def test_a_stock_consumer_that_never_accepts_holds_nobody() -> None:
    client = Client(hold)
    client.send(upgrade("/stock/"))
    await asyncio.sleep(0)
    time_passes()
    assert client.transport.aborted
    for task in client.state.tasks:
        task.cancel()
    client.transport.protocol.connection_lost(None)


async def test_a_stock_client_that_neither_answers_pings_nor_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    monkeypatch.setattr(http_protocol, "CLOSE_SECONDS", 0.0)
    client = Client(accept)
    client.send(upgrade("/stock/"))
    await asyncio.sleep(0)
    client.transport.protocol.keepalive_timeout()
    await client.transport.cut_off()
    client.transport.protocol.connection_lost(None)
    await client.ended()


@pytest.mark.parametrize("said", [b"", b"GET", upgrade()])
async def test_who_goes_is_forgotten(said: bytes) -> None:
    client = Client(hold)
    if said:
        client.send(said)
    client.transport.protocol.connection_lost(None)
    assert not len(unfinished)
