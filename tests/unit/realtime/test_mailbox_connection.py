"""The connection for any ASGI server: what waits, what is kept, what is thrown away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.realtime import close_codes, mailbox_connection
from app.realtime.connection import Batch
from app.realtime.event import Delivery, EncodedEvent
from app.realtime.mailbox_connection import MailboxConnection


class Client:
    """The far end of `send()`: takes as many frames as the test lets it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._permits = asyncio.Semaphore(0)
        self.gone = self.asked = False
        self.application: asyncio.Task[None]

    async def send(self, message: dict[str, Any]) -> None:
        await self._permits.acquire()
        if self.gone:
            raise ConnectionError("the client has gone")
        self.messages.append(message)

    async def receive(self) -> dict[str, Any]:
        self.asked = True
        return {"type": "websocket.disconnect", "code": 1000}

    async def reads(self, frames: int) -> None:
        for _ in range(frames):
            self._permits.release()
        await settle()

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages if "text" in message]


class Deaf:
    """A receiver that no frame reaches."""

    def frame_received(self, text: bytes) -> None:
        raise AssertionError(text)

    def connection_lost(self, code: int) -> None:
        raise AssertionError(code)


def batch(*texts: str, delivery: Delivery = Delivery.DURABLE, key: str = "") -> Batch:
    return Batch([EncodedEvent(text.encode(), delivery, key) for text in texts])


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def client() -> Client:
    return Client()


@pytest.fixture
async def connection(client: Client) -> AsyncIterator[MailboxConnection]:
    connections: list[MailboxConnection] = []

    async def application() -> None:
        connections.append(MailboxConnection(client.send, unsent_limit=10))
        await asyncio.Event().wait()

    client.application = asyncio.create_task(application())
    await settle()
    yield connections[0]
    client.gone = True
    await client.reads(2)  # what is on its way, and the close
    await connections[0].stop()
    client.application.cancel()


async def test_frames_leave_in_the_order_of_calls(client: Client, connection: MailboxConnection) -> None:
    connection.send(b"hello")
    connection.deliver(batch("one", "two"))
    connection.close(close_codes.DRAIN)
    connection.send(b"after the close")
    await client.reads(10)
    assert client.texts == ["hello", "one", "two"]
    assert client.messages[-1] == {
        "type": "websocket.close",
        "code": close_codes.DRAIN,
        "reason": close_codes.REASONS[close_codes.DRAIN],
    }


async def test_who_is_let_go_hears_when_to_come_back(client: Client, connection: MailboxConnection) -> None:
    connection.release(1.5)
    connection.send(b"behind")
    await client.reads(10)
    assert client.texts == ['{"event":"connection.released","data":{"retry_after":1.5}}']
    assert client.messages[-1]["code"] == close_codes.DRAIN


async def test_who_is_far_behind_is_let_go_with_the_close_alone(
    client: Client, connection: MailboxConnection
) -> None:
    connection.send(b"x" * 10)
    connection.release(1.5)
    await client.reads(10)
    assert client.texts == ["x" * 10]
    assert client.messages[-1]["code"] == close_codes.DRAIN


async def test_a_slow_client_gets_the_newest_of_each_key_when_it_reads_again(
    client: Client, connection: MailboxConnection
) -> None:
    connection.send(b"x" * 10)
    connection.deliver(batch("old", "new", delivery=Delivery.LATEST, key="price"))
    connection.deliver(batch("other", delivery=Delivery.LATEST, key="weather"))
    await client.reads(10)
    assert client.texts == ["x" * 10, "new", "other"]


async def test_an_older_value_never_follows_a_newer_one(
    client: Client, connection: MailboxConnection
) -> None:
    connection.send(b"x" * 8)
    connection.send(b"y" * 4)
    connection.deliver(batch("old", delivery=Delivery.LATEST, key="price"))
    await client.reads(1)
    connection.deliver(batch("new", delivery=Delivery.LATEST, key="price"))
    await client.reads(10)
    assert client.texts[2:] == ["new"]


async def test_what_a_slow_client_need_not_know_is_skipped(
    client: Client, connection: MailboxConnection
) -> None:
    connection.send(b"x" * 10)
    connection.deliver(batch("skipped", delivery=Delivery.DROPPABLE))
    await client.reads(10)
    connection.deliver(batch("not skipped", delivery=Delivery.DROPPABLE))
    await client.reads(10)
    assert client.texts == ["x" * 10, "not skipped"]


@pytest.mark.parametrize("what", ["durable event", "reply"])
async def test_a_slow_client_that_would_miss_something_is_cut_off(
    client: Client, connection: MailboxConnection, what: str
) -> None:
    connection.send(b"x" * 10)
    if what == "reply":
        connection.send(b"reply")
    else:
        connection.deliver(batch("durable"))
    assert connection.close_code == close_codes.SLOW_CONSUMER
    await client.reads(10)
    assert client.application.cancelled()
    connection.send(b"nothing more")
    await client.reads(10)
    assert "nothing more" not in client.texts


async def test_a_client_that_has_gone_ends_the_connection(
    client: Client, connection: MailboxConnection
) -> None:
    client.gone = True
    connection.send(b"hello")
    await client.reads(1)
    assert client.application.cancelled()
    assert connection.close_code == close_codes.ABNORMAL
    connection.send(b"into the void")
    await client.reads(10)
    assert client.texts == []


async def test_nothing_is_sent_after_a_close_frame(client: Client, connection: MailboxConnection) -> None:
    connection.send(b"x" * 10)
    connection.deliver(batch("kept for later", delivery=Delivery.LATEST, key="price"))
    connection.close(close_codes.DRAIN)
    connection.close(close_codes.SLOW_CONSUMER)
    await client.reads(10)
    assert [message["type"] for message in client.messages] == ["websocket.send", "websocket.close"]
    assert client.messages[-1]["code"] == close_codes.DRAIN


async def test_letters_of_many_bytes_are_counted_as_bytes(
    client: Client, connection: MailboxConnection
) -> None:
    connection.send("☃☃☃☃".encode())
    connection.send(b"x")
    assert connection.close_code == close_codes.SLOW_CONSUMER


async def test_what_was_sent_makes_room_again(client: Client, connection: MailboxConnection) -> None:
    snowmen = "☃☃☃".encode()
    for _ in range(20):
        connection.send(snowmen)
        connection.send(b"x")
        await client.reads(2)
    assert len(client.texts) == 40


async def test_a_server_that_keeps_evicted_clients_is_told_to_close(
    client: Client, connection: MailboxConnection
) -> None:
    connection.send(b"x" * 10)
    connection.send(b"too much")
    stopping = asyncio.create_task(connection.stop())
    await client.reads(10)
    await stopping
    assert client.messages[-1]["type"] == "websocket.close"
    assert client.messages[-1]["code"] == close_codes.SLOW_CONSUMER


async def test_a_client_that_does_not_answer_a_close_ends_all_the_same(
    client: Client, connection: MailboxConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_connection, "CLOSE_SECONDS", 0.01)
    connection.close(close_codes.DRAIN)
    await asyncio.wait([client.application], timeout=10)
    assert client.application.cancelled()


async def test_a_closing_connection_reads_on_so_that_the_answer_is_seen(
    client: Client, connection: MailboxConnection
) -> None:
    connection.pause_reading()
    connection.close(close_codes.DRAIN)
    async with asyncio.timeout(10):
        await connection.read(client.receive, Deaf(), 100)
    assert client.asked
