"""The consumer over both kinds of connection, without a server: the same promises on either."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

import msgspec
import pytest
from prometheus_client import REGISTRY
from pytest_django import Settings

from app.realtime import close_codes
from app.realtime.connection import Batch, Receiver
from app.realtime.consumers import COMMANDS_WAITING, DIRECT_EXTENSION, RealtimeConsumer
from app.realtime.event import Delivery, Event
from app.realtime.handlers import Later, Reply, command
from app.realtime.identity import Identity
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import EVERYONE, Node, current_node
from app.realtime.people import FLOOD_SECONDS, REFUSED_BURSTS
from app.realtime.protocol import INVALID_FRAMES_ALLOWED, CommandError
from app.realtime.publisher import publish

ADA = Identity("u1", "ada")


class Said(Event):
    name: ClassVar[str] = "test.said"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    text: str


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    branches: list["Tree"]


class Consumer(RealtimeConsumer):
    """Does what its commands say."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.codes: list[int] = []
        self.done: list[str] = []

    def disconnected(self, code: int) -> None:
        self.codes.append(code)

    @command("echo")
    def echo(self, data: Text) -> Text:
        self.done.append(data.text)
        return data

    @command("wait")
    async def wait(self, data: Text) -> Text:
        await self.gate.wait()
        self.done.append(data.text)
        return data

    @command("join")
    async def join(self, data: Text) -> None:
        await self.subscribe(data.text)

    @command("leave")
    def leave(self, data: Text) -> None:
        self.unsubscribe(data.text)

    @command("say")
    def say(self, data: Text) -> None:
        publish("room", Said(data.text))

    @command("close")
    def close_me(self, data: Text) -> None:
        self.close(int(data.text))

    @command("grow")
    def grow(self, data: Tree) -> None:
        """Takes anything as deep as it is."""

    @command("refuse")
    async def refuse(self, data: Text) -> None:
        raise CommandError("not_allowed", data.text, retry_after=1.23456)

    @command("fail")
    def fail(self, data: Text) -> None:
        raise RuntimeError(data.text)

    @command("fail_later")
    async def fail_later(self, data: Text) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(data.text)

    @command("cancelled_elsewhere")
    async def cancelled_elsewhere(self, data: Text) -> None:
        other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        other.cancel()
        await other

    @command("store")
    def store(self, data: Text) -> Later:
        self.stored: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def reply(stored: asyncio.Future[str]) -> Text | Reply:
            if stored.result() == "refused":
                raise CommandError("not_allowed", data.text)
            self.done.append(data.text)
            return Text(stored.result()) if data.text != "both" else Reply(Text("both"), self.tell)

        return Later(self.stored, reply)

    @command("store_later")
    async def store_later(self, data: Text) -> Later:
        await asyncio.sleep(0)
        return self.store(data)

    @command("reply_and_tell")
    def reply_and_tell(self, data: Text) -> Reply:
        return Reply(data, self.tell if data.text != "fail" else partial(self.fail, data))

    def tell(self) -> None:
        self.send(Said("behind the reply"))

    @command("unencodable")
    def unencodable(self, data: Text) -> object:
        return object()


class Wire:
    """The far end of one connection: what came, and whether the node still reads."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.subprotocol: str | None = None
        self.closed_with: int | None = None
        self.open = False

    def came(self, payload: str | bytes) -> None:
        assert self.closed_with is None, "written to after its close frame"
        self.frames.append(msgspec.json.decode(payload))

    async def connect(self, application: Any, scope: dict[str, Any]) -> None:
        raise NotImplementedError

    def write(self, text: bytes) -> None:
        raise NotImplementedError

    async def lose(self, code: int) -> None:
        raise NotImplementedError


class DirectWire(Wire):
    """The fast path: the consumer is given this as its connection."""

    closing = False

    async def connect(self, application: Any, scope: dict[str, Any]) -> None:
        self._unread: deque[bytes] = deque()
        self._reading = True
        upgrade = application({**scope, "extensions": {DIRECT_EXTENSION: self}}, None, None)
        self._upgrade = asyncio.create_task(upgrade)
        await until(lambda: self.open or self._upgrade.done())
        if self._upgrade.done():
            self._upgrade.result()

    def accept(self, receiver: Receiver, subprotocol: str | None, hello: bytes) -> "DirectWire":
        self._receiver = receiver
        self.subprotocol = subprotocol
        self.open = True
        self.came(hello)
        return self

    def write(self, text: bytes) -> None:
        self._unread.append(text)
        self._read_on()

    async def lose(self, code: int) -> None:
        if self.open:
            self.open, self.closing = False, True
            self._receiver.connection_lost(self.closed_with or code)
            await asyncio.wait([self._upgrade])

    def deliver(self, batch: Batch) -> None:
        for event in batch.events:
            self.send(event.payload)

    def send(self, payload: bytes) -> None:
        if not self.closing:
            self.came(payload)

    def close(self, code: int, reason: str = "") -> None:
        if not self.closing:
            self.closing, self.closed_with = True, code

    def abort(self, code: int) -> None:
        self.close(code)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        while self._unread and self._reading and not self.closing:
            self._receiver.frame_received(self._unread.popleft())


class MailboxWire(Wire):
    """Any ASGI server."""

    async def connect(self, application: Any, scope: dict[str, Any]) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._application = asyncio.create_task(application(scope, self._inbox.get, self._sent))
        await until(lambda: self.frames or self._application.done())
        if self._application.done():
            self._application.result()

    async def _sent(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            assert not self.open
            self.open, self.subprotocol = True, message["subprotocol"]
        elif message["type"] == "websocket.send":
            self.came(message["text"])
        else:
            assert message["type"] == "websocket.close"
            assert self.closed_with is None, "closed twice"
            self.closed_with = message["code"]

    def write(self, text: bytes) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text.decode()})

    async def lose(self, code: int) -> None:
        if self.open:
            self.open = False
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": code})
            async with asyncio.timeout(10):
                await self._application


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


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # none of these conditions is an event
            await asyncio.sleep(0)


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


Connect = Callable[..., Any]


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


# Opening -------------------------------------------------------------------------------------------------


async def test_the_first_frame_is_hello(connect: Connect, node: Node, settings: Settings) -> None:
    before = datetime.now(UTC)
    client = await connect()
    (hello,) = client.wire.frames
    assert hello["event"] == "hello"
    data = hello["data"]
    assert data["protocol"] == 1
    assert data["node"] == node.name
    assert data["bus_connected"] is True
    assert before <= datetime.fromisoformat(data["time"]) <= datetime.now(UTC)
    assert data["user"] == {"id": "u1", "name": "ada", "guest": False}
    assert data["limits"]["frame_bytes"] == settings.FRAME_LIMIT_BYTES
    other = await connect()
    assert other.wire.frames[0]["data"]["connection"] != data["connection"]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([], None), (["carillon.v1"], "carillon.v1"), (["x", "carillon.v1"], "carillon.v1"), (["v2"], None)],
)
async def test_our_subprotocol_is_chosen_if_it_was_offered(
    connect: Connect, offered: list[str], chosen: str | None
) -> None:
    client = await connect(subprotocols=offered)
    assert client.wire.subprotocol == chosen


async def test_who_waits_for_accept_is_called_with_the_connection(connect: Connect) -> None:
    accepted: list[Any] = []
    client = await connect(on_accept=[accepted.append])
    assert accepted == [client.consumer.connection]


class Slow(Consumer):
    async def connected(self) -> None:
        await self.subscribe("room")
        await self.gate.wait()


async def test_commands_wait_until_connected_returns(connect: Connect) -> None:
    client = await connect(Slow)
    first = client.send("echo", "a")
    await settle()
    assert client.consumer.done == []
    client.consumer.gate.set()
    await client.answer(first)
    assert client.consumer.done == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncio.CancelledError()])
async def test_connected_that_fails_closes_with_4002_and_runs_no_command(
    connect: Connect, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Slow):
        async def connected(self) -> None:
            await super().connected()
            raise error

    client = await connect(Failing)
    client.send("echo", "never")
    client.consumer.gate.set()
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.CONSUMER_FAILED
    await client.wire.lose(1001)
    assert client.consumer.done == []
    assert client.consumer.codes == [close_codes.CONSUMER_FAILED]
    [said] = [record for record in caplog.records if "connected failed" in record.getMessage()]
    assert vars(said)["connection"] == client.wire.frames[0]["data"]["connection"], "the id that hello told"


# Commands ------------------------------------------------------------------------------------------------


async def test_a_command_is_answered_with_what_its_handler_returns(connect: Connect) -> None:
    client = await connect()
    assert await client.command("echo", "hi") == {"id": 1, "reply": {"text": "hi"}}
    assert await client.command("ping") == {"id": 2, "reply": {}}


async def test_any_consumer_takes_a_ping_of_a_client_that_follows_streams(connect: Connect) -> None:
    client = await connect()
    answer = await client.refusal(b'{"id": 1, "command": "ping", "data": {"seen": {"orders.4711": 7}}}')
    assert answer == {"id": 1, "reply": {}}


async def test_commands_are_carried_out_and_answered_in_order(connect: Connect) -> None:
    client = await connect()
    names = ["wait", "echo", "join", "echo", "wait", "leave", "echo"]
    ids = [client.send(name, f"{name}{number}") for number, name in enumerate(names)]
    await settle()
    assert client.answers == []
    client.consumer.gate.set()
    await client.answer(ids[-1])
    assert client.answers == ids
    assert client.consumer.done == ["wait0", "echo1", "echo3", "wait4", "echo6"]


@pytest.mark.parametrize(
    ("frame", "command_id", "part"),
    [
        (b"", None, "expected a command"),
        (b"nonsense", None, "expected a command"),
        (b"[]", None, "object"),
        (b"{}", None, "id"),
        (b'{"id": 0, "command": "echo"}', None, "id"),
        (b'{"id": 1.5, "command": "echo"}', None, "id"),
        (b'{"id": 9007199254740993, "command": "echo"}', None, "id"),
        (b'{"id": 77}', 77, "command"),
        (b'{"id": 77, "command": 5}', 77, "command"),
        (b'{"id": 77, "command": "' + b"x" * 65 + b'"}', 77, "command"),
        (b'{"id": 77, "command": "echo", "more": 1}', 77, "more"),
        (b'{"id": 77, "command": "echo", "data": ' + b"[" * 30_000, None, "32 levels"),
    ],
)
async def test_a_frame_that_is_no_command_is_refused_in_words(
    connect: Connect, frame: bytes, command_id: int | None, part: str
) -> None:
    client = await connect()
    answer = await client.refusal(frame)
    assert answer["id"] == command_id
    assert answer["error"]["code"] == "invalid_frame"
    assert part in answer["error"]["message"]
    assert (await client.command("echo", "still here"))["reply"] == {"text": "still here"}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"null", "object"),
        (b"{}", "text"),
        (b'{"text": 5}', "text"),
        (b'{"text": "x", "more": 1}', "more"),
    ],
)
async def test_data_of_another_shape_is_refused_in_words(connect: Connect, data: bytes, part: str) -> None:
    client = await connect()
    client.wire.write(b'{"id": 7, "command": "echo", "data": ' + data + b"}")
    error = (await client.answer(7))["error"]
    assert error["code"] == "invalid_data"
    assert error["message"].startswith("echo: ")
    assert part in error["message"]


async def test_data_nested_too_deep_is_refused(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    client = await connect()
    deep = b'{"branches": [' * 2_000 + b"]}" * 2_000
    client.wire.write(b'{"id": 7, "command": "grow", "data": ' + deep + b"}")
    await until(lambda: len(client.wire.frames) > 1)
    assert client.wire.frames[-1]["error"]["code"] in ("invalid_data", "invalid_frame")
    assert not caplog.records, "a client can fill the log"


async def test_an_unknown_command_is_named(connect: Connect) -> None:
    client = await connect()
    error = (await client.command("chat.fly"))["error"]
    assert error == {"code": "unknown_command", "message": "no command 'chat.fly'"}


async def test_a_refusal_carries_its_code_and_when_to_try_again(connect: Connect) -> None:
    client = await connect()
    error = (await client.command("refuse", "not you"))["error"]
    assert error == {"code": "not_allowed", "message": "not you", "retry_after": 1.235}


@pytest.mark.parametrize("name", ["fail", "fail_later", "cancelled_elsewhere", "unencodable"])
async def test_a_handler_that_fails_costs_one_answer_and_not_the_connection(
    connect: Connect, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect()
    succeeded = sample("carillon_commands_total", outcome="ok")
    failed, next_ = client.send(name, "secret detail"), client.send("echo", "next")
    error = (await client.answer(failed))["error"]
    assert error["code"] == "internal_error"
    assert "secret detail" not in error["message"]
    assert "failed" in caplog.text
    await client.answer(next_)
    assert client.answers == [failed, next_]
    assert sample("carillon_commands_total", outcome="ok") == succeeded + 1


@pytest.mark.parametrize("lone", [r"\ud800", r"\udfff", r"a\uD83D b", r"\ud83d\u0041", r"\\\ude00\ude00"])
async def test_half_a_character_is_refused_by_its_id_and_named(connect: Connect, lone: str) -> None:
    client = await connect()
    frame = f'{{"id": 7, "command": "echo", "data": {{"text": "{lone}"}}}}'.encode()
    # Somebody's text that was cut: no sign of a client that does not know the protocol.
    for _ in range(INVALID_FRAMES_ALLOWED + 1):
        answer = await client.refusal(frame)
        assert (answer["id"], answer["error"]["code"]) == (7, "invalid_data")
        assert answer["error"]["message"] == "echo: not valid Unicode: half of a surrogate pair"
    assert (await client.command("echo", "still here"))["reply"] == {"text": "still here"}


async def test_too_many_invalid_frames_end_the_connection(connect: Connect) -> None:
    client = await connect()
    for _ in range(INVALID_FRAMES_ALLOWED):
        await client.refusal(b"nonsense")
    assert (await client.command("echo", "x"))["reply"]
    assert client.wire.closed_with is None
    client.wire.write(b"nonsense")
    client.send("echo", "never")
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.TOO_MANY_INVALID_FRAMES
    await settle()
    assert client.consumer.done == ["x"]


async def test_too_many_commands_are_told_when_to_try_again(connect: Connect, settings: Settings) -> None:
    settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST = 0.5, 3
    client = await connect()
    for _ in range(3):
        assert "reply" in await client.command("ping")
    error = (await client.command("ping"))["error"]
    assert error["code"] == "rate_limited"
    assert 0 < error["retry_after"] <= 2
    assert client.wire.closed_with is None


async def test_who_goes_on_sending_is_told_when_to_come_back_and_closed(
    connect: Connect, settings: Settings
) -> None:
    settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST = 0.5, 3
    client = await connect()
    for _ in range(3 + REFUSED_BURSTS * 3 + 5):
        client.send("ping")
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.FLOODED
    *_, told = client.wire.frames
    assert told["event"] == "connection.released"
    assert FLOOD_SECONDS <= told["data"]["retry_after"] <= 2 * FLOOD_SECONDS
    refused = [frame for frame in client.wire.frames if "error" in frame]
    assert len(refused) == REFUSED_BURSTS * 3 + 1


async def test_one_persons_connections_share_what_a_person_may_send(
    connect: Connect, settings: Settings
) -> None:
    settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST = 0.5, 3
    settings.COMMANDS_PER_PERSON = 0.5
    first, second = await connect(), await connect()
    for _ in range(3):
        assert "reply" in await first.command("ping")
    assert (await second.command("ping"))["error"]["code"] == "rate_limited"


async def test_a_flood_behind_a_slow_command_stops_reading_and_loses_nothing(
    connect: Connect, settings: Settings
) -> None:
    settings.COMMANDS_PER_PERSON = settings.COMMANDS_PER_SECOND = settings.COMMANDS_BURST = 10_000
    client = await connect()
    ids = [client.send("wait" if number % 7 == 0 else "echo", str(number)) for number in range(200)]
    await settle()
    assert client.consumer._waiting is not None
    assert len(client.consumer._waiting) == COMMANDS_WAITING, "the rest is not read"
    client.consumer.gate.set()
    await client.answer(ids[-1])
    assert client.answers == ids
    assert client.consumer.done == [str(number) for number in range(200)]


@pytest.mark.parametrize("name", ["store", "store_later"])
async def test_a_reply_may_come_when_a_future_is_done_and_later_commands_wait_for_it(
    connect: Connect, name: str
) -> None:
    client = await connect()
    first, second = client.send(name, "one"), client.send("echo", "two")
    await settle()
    assert client.answers == []
    client.consumer.stored.set_result("three")
    assert (await client.answer(second))["reply"] == {"text": "two"}
    assert client.answers == [first, second]
    assert client.wire.frames[1]["reply"] == {"text": "three"}
    assert client.consumer.done == ["one", "two"]


async def test_a_future_that_fails_is_answered_like_a_handler_that_fails(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect()
    codes = []
    for outcome in ("refused", RuntimeError("a bug"), asyncio.CancelledError()):
        sent = client.send("store", "one")
        await until(lambda: hasattr(client.consumer, "stored") and not client.consumer.stored.done())
        if isinstance(outcome, str):
            client.consumer.stored.set_result(outcome)
        elif isinstance(outcome, RuntimeError):
            client.consumer.stored.set_exception(outcome)
        else:
            client.consumer.stored.cancel()
        codes.append((await client.answer(sent))["error"]["code"])
    assert codes == ["not_allowed", "internal_error", "internal_error"]
    assert "a bug" in caplog.text
    assert (await client.command("echo", "still here"))["reply"] == {"text": "still here"}


@pytest.mark.parametrize("failing", [False, True])
async def test_a_future_outlives_the_connection_that_waited_for_it(connect: Connect, failing: bool) -> None:
    client = await connect()
    client.send("store", "one")
    client.send("echo", "two")
    await settle()
    await client.wire.lose(1006)
    stored = client.consumer.stored
    assert not stored.cancelled()
    if failing:
        stored.set_exception(RuntimeError("nobody waits any more"))
    else:
        stored.set_result("three")
    await settle()
    assert client.consumer.done == []
    assert client.answers == []


@pytest.mark.parametrize("name", ["reply_and_tell", "store"])
async def test_what_follows_a_reply_comes_right_behind_it(connect: Connect, name: str) -> None:
    client = await connect()
    sent = client.send(name, "both")
    await settle()
    if name == "store":
        client.consumer.stored.set_result("three")
    await client.answer(sent)
    assert [frame.get("id", frame.get("event")) for frame in client.wire.frames[1:]] == [sent, "test.said"]


async def test_a_failure_behind_a_reply_ends_the_connection(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect()
    client.send("reply_and_tell", "fail")
    await until(lambda: client.wire.closed_with)
    assert client.wire.closed_with == close_codes.CONSUMER_FAILED
    assert [frame.get("id") for frame in client.wire.frames[1:]] == [1]
    assert "failed behind its reply" in caplog.text


async def test_commands_behind_a_close_are_not_carried_out(connect: Connect) -> None:
    client = await connect()
    client.send("wait", "running")
    client.send("echo", "waiting")
    await settle()
    client.consumer.connection.close(close_codes.IDENTITY_REVOKED)
    client.consumer.gate.set()
    client.send("echo", "late")
    await until(lambda: client.wire.closed_with)
    await settle()
    assert client.wire.closed_with == close_codes.IDENTITY_REVOKED
    assert client.consumer.done == ["running"]


# Groups --------------------------------------------------------------------------------------------------


async def test_events_come_from_join_to_leave_and_no_longer(connect: Connect) -> None:
    client, other = await connect(), await connect()
    await other.command("say", "before")
    await client.command("join", "room")
    await other.command("say", "while there")
    await until(lambda: client.said)
    await client.command("leave", "room")
    await other.command("say", "after")
    await settle()
    assert client.said == ["while there"]


async def test_replies_and_events_leave_in_the_order_of_calls(connect: Connect) -> None:
    client = await connect()
    await client.command("join", "room")
    frames = client.wire.frames
    for number in range(5):
        await client.command("say", str(number))
        await until(lambda: len(client.said) > number)  # noqa: B023  # awaited within the round
    assert [frame.get("id", frame.get("event")) for frame in frames[2:]] == [
        part for number in range(2, 7) for part in (number, "test.said")
    ]


async def test_joining_twice_is_joining_once(connect: Connect, node: Node) -> None:
    before = sample("carillon_subscriptions")
    client = await connect()
    await client.command("join", "room")
    await client.command("join", "room")
    assert sample("carillon_subscriptions") == before + 1
    await client.command("leave", "room")
    await client.command("leave", "room")
    assert sample("carillon_subscriptions") == before
    assert node.hub.members("room") == 0


async def test_everybody_hears_that_the_bus_changed(connect: Connect, node: Node) -> None:
    client = await connect()
    node._bus_changed(False)
    await until(lambda: len(client.wire.frames) > 1)
    assert client.wire.frames[-1] == {"event": "node.bus_changed", "data": {"connected": False}}


# Leaving -------------------------------------------------------------------------------------------------


def left_behind(node: Node) -> dict[str, float]:
    assert isinstance(node.broker, MemoryBroker)
    return {
        "everyone": node.hub.members(EVERYONE),
        "groups": node.hub.groups(),
        "subscriptions": sample("carillon_subscriptions"),
        "bus": len(node.broker._groups),
        "tasks": len(asyncio.all_tasks()),
    }


class LeavesBadly(Consumer):
    async def connected(self) -> None:
        await self.subscribe("room")

    def disconnected(self, code: int) -> None:
        super().disconnected(code)
        raise RuntimeError("a bug")


class ComesBack(LeavesBadly):
    def disconnected(self, code: int) -> None:
        self.codes.append(code)
        self.subscribe("room")


class Clings(Consumer):
    """Its command does not want to end."""

    @command("cling")
    async def cling(self, data: Text) -> None:
        await self.subscribe(data.text)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.unsubscribe(data.text)
            await self.subscribe(data.text)


@pytest.mark.parametrize("kind", [Consumer, Slow, LeavesBadly, ComesBack, Clings])
@pytest.mark.parametrize("last", [None, "join", "wait", "cling", "fail"])
async def test_nothing_is_left_behind_whatever_the_way_out(
    connect: Connect, node: Node, kind: type[Consumer], last: str | None
) -> None:
    before = left_behind(node)
    client = await connect(kind)
    if last:
        client.send(last, "room")
        client.send("join", "another room")
    await settle()
    await client.wire.lose(1001)
    await settle()
    assert left_behind(node) == before
    assert client.consumer.codes == [1001]


async def test_a_client_that_vanishes_cancels_the_command_that_runs(connect: Connect) -> None:
    client = await connect()
    client.send("wait", "never")
    await settle()
    await client.wire.lose(1001)
    client.consumer.gate.set()
    await settle()
    assert client.consumer.done == []


async def test_connections_are_counted_on_any_server(connect: Connect) -> None:
    async def counts() -> tuple[float, float]:
        closed = sample("carillon_connections_closed_total", code="1001")
        return sample("carillon_connections", path="mailbox"), closed

    open_before, closed_before = await counts()
    client = await connect()
    open_now, _ = await counts()
    assert open_now - open_before == (1 if isinstance(client.wire, MailboxWire) else 0)
    await client.wire.lose(1001)
    assert await counts() == (open_before, closed_before + 1)


# The mailbox's own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"bytes": b"x"}, close_codes.UNSUPPORTED_DATA),
        ({"text": "x" * 2_001}, close_codes.TOO_BIG),
        ({"text": "☃" * 667}, close_codes.TOO_BIG),
    ],
)
async def test_what_another_server_lets_through_is_judged_here(
    settings: Settings, message: dict[str, Any], code: int
) -> None:
    settings.FRAME_LIMIT_BYTES = 2_000
    wire = MailboxWire()
    await wire.connect(Consumer.as_asgi(), {"identity": ADA, "subprotocols": []})
    wire._inbox.put_nowait({"type": "websocket.receive", **message})
    await until(lambda: wire.closed_with)
    assert wire.closed_with == code
    await wire.lose(1005)


# Mistakes of features ------------------------------------------------------------------------------------


def test_a_handler_without_a_type_for_its_data_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match="expected one annotated argument"):

        class Broken(RealtimeConsumer):
            @command("broken")
            def broken(self, data):  # type: ignore[no-untyped-def]
                pass


def test_a_subclass_has_the_commands_of_its_bases_and_its_own() -> None:
    assert {"ping", "echo", "cling"} <= set(Clings._handlers)
    assert "cling" not in Consumer._handlers


def test_an_error_code_that_is_not_documented_cannot_be_raised() -> None:
    with pytest.raises(ValueError, match="unknown error code 'nope'"):
        CommandError("nope", "?")
