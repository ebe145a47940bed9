"""The wire protocol over real sockets: on the fast path, on uvicorn's own WebSockets, and on daphne.

One suite for all three, so that the fallback behaves as the fast path does.
"""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.frames import Close, Frame, Opcode

from app.realtime.protocol import INVALID_FRAMES_ALLOWED
from deploy.local.processes import wait_until
from tests.integration.serving.client import PATIENCE, Client, upgrade_request
from tests.integration.serving.servers import Server, server

FRAME_LIMIT = 4_000
SHARED = {
    "FRAME_LIMIT_BYTES": str(FRAME_LIMIT),
    "COMMANDS_PER_SECOND": "50",
    "COMMANDS_BURST": "300",
    "LOG_LEVEL": "WARNING",
    "DEBUG": "true",  # pages that are not found need no collected static files
}


@dataclass
class Door:
    """Where one kind of connection is made."""

    kind: str
    port: int
    path: str

    async def open(self, query: str = "") -> Client:
        """A client that was greeted."""
        client = await Client.connect(self.port, self.path + query)
        await client.hello()
        return client


@pytest.fixture(scope="module")
def node() -> Iterator[Server]:
    with server(**SHARED) as one:
        yield one


@pytest.fixture(scope="module")
def daphne() -> Iterator[Server]:
    with server("daphne", **SHARED) as one:
        yield one


@pytest.fixture(params=["fast", "uvicorn", "daphne"])
def door(request: pytest.FixtureRequest) -> Door:
    one: Server = request.getfixturevalue("daphne" if request.param == "daphne" else "node")
    return Door(request.param, one.port, "/realtime/" if request.param == "fast" else "/mailbox/")


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110  # the server is another process
            await asyncio.sleep(0.02)


async def close_code_of(door: Door, name: str) -> int:
    """What the consumer of the client that came under `name` was told at its end."""
    codes: list[int] = []
    async with await door.open() as observer:

        async def left() -> bool:
            codes.append((await observer.command("close_code_of", group=name))["number"])
            return codes[-1] != 0

        await until(left)
    return codes[-1]


# Opening -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "chosen"), [("carillon.v1", "carillon.v1"), ("x, carillon.v1", "carillon.v1"), (None, None)]
)
async def test_hello_is_first_and_the_subprotocol_is_ours(
    door: Door, offered: str | None, chosen: str | None
) -> None:
    async with await Client.open(door.port) as client:
        client.write(upgrade_request(f"{door.path}?name=ada", **{"Sec-WebSocket-Protocol": offered}))
        status, fields = await client.response()
        assert status.startswith("HTTP/1.1 101 ")
        assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert fields.get("sec-websocket-protocol") == chosen
        assert "sec-websocket-extensions" not in fields
        hello = await client.hello()
    assert hello["protocol"] == 1
    assert hello["user"]["name"] == "ada"
    assert hello["limits"]["frame_bytes"] == FRAME_LIMIT


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_what_is_said_before_the_answer_is_not_lost(node: Server, together: bool) -> None:
    async with await Client.open(node.port) as client:
        request = upgrade_request("/realtime/")
        echoes = [json.dumps({"id": n + 1, "command": "echo", "data": {"number": n}}) for n in range(20)]
        frames = b"".join(Frame(Opcode.TEXT, echo.encode()).serialize(mask=True) for echo in echoes)
        for part in [request + frames] if together else [request, frames]:
            client.write(part)
        await client.response()
        await client.hello()
        assert [await client.message() for _ in echoes] == [
            {"id": number + 1, "reply": {"number": number}} for number in range(20)
        ]


@pytest.mark.parametrize(
    ("path", "fields", "status", "body"),
    [
        ("/realtime/refused/", {}, "401 Unauthorized", "no ticket"),
        ("/realtime/closed/", {}, "403 Forbidden", ""),
        ("/realtime/broken/", {}, "500 Internal Server Error", "internal server error\n"),
        ("/realtime/stock/", {}, "500 Internal Server Error", "internal server error\n"),
        ("/realtime/", {"Sec-WebSocket-Version": "7"}, "426 Upgrade Required", None),
        ("/realtime/", {"Sec-WebSocket-Key": None}, "400 Bad Request", None),
    ],
)
async def test_a_refusal_is_a_complete_http_response(
    node: Server, path: str, fields: dict[str, str | None], status: str, body: str | None
) -> None:
    async with await Client.open(node.port) as client:
        client.write(upgrade_request(path, **fields))
        line, headers = await client.response()
        assert line == f"HTTP/1.1 {status}"
        assert headers["connection"] == "close"
        rest = await asyncio.wait_for(client.reader.read(), PATIENCE)
    assert len(rest) == int(headers["content-length"])
    assert body is None or rest.decode() == body


async def test_a_stock_consumer_on_the_fast_path_is_told_where_it_belongs(node: Server) -> None:
    async with await Client.open(node.port) as client:
        client.write(upgrade_request("/realtime/stock/"))
        await client.response()
    assert wait_until(lambda: any("mounted outside of /realtime/" in line for line in node.log), PATIENCE)
    async with await Client.connect(node.port, "/stock/"):
        pass


# Frames --------------------------------------------------------------------------------------------------


async def test_replies_come_in_the_order_of_commands(door: Door) -> None:
    async with await door.open() as client:
        names = ["echo", "echo_later", "echo", "echo_later", "echo_later", "echo"] * 5
        ids = [client.send(name, number=number) for number, name in enumerate(names)]
        answers = [await client.message() for _ in ids]
    assert answers == [{"id": id_, "reply": {"number": number}} for number, id_ in enumerate(ids)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", "invalid_frame"),
        ('{"id": 9, "command": "echo", "data": {"number": 1}, "more": 1}', "invalid_frame"),
        ('{"id": 9, "command": "echo", "data": ' + "[" * 3_000 + "]" * 900 + "}", "invalid_frame"),
        ('{"id": 9, "command": "echo", "data": {"number": 1, "more": 1}}', "invalid_data"),
        ('{"id": 9, "command": "fly"}', "unknown_command"),
        ('{"id": 9, "command": "fail"}', "internal_error"),
    ],
)
async def test_what_cannot_be_carried_out_is_refused_and_the_connection_stays(
    door: Door, text: str, code: str
) -> None:
    async with await door.open() as client:
        client.frame(Opcode.TEXT, text.encode())
        assert (await client.message())["error"]["code"] == code
        assert await client.command("echo", number=5) == {"number": 5}


@pytest.mark.parametrize(
    ("opcode", "data", "code"),
    [
        (Opcode.BINARY, b"{}", 1003),
        (Opcode.TEXT, b"\xff\xfe", 1007),
        (Opcode.TEXT, b"x" * (FRAME_LIMIT + 1), 1009),
        (Opcode.PING, b"x" * 126, 1002),
    ],
)
async def test_a_frame_against_the_rules_closes_with_its_code(
    door: Door, opcode: Opcode, data: bytes, code: int
) -> None:
    async with await door.open() as client:
        head = bytes([0x80 | opcode]) + (
            bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        )
        client.write(head + b"\0\0\0\0" + data)
        if door.kind != "daphne":
            assert await client.closed() == code
            client.frame(Opcode.CLOSE, Close(code, "").serialize())
        elif code in (1003, 1009):  # daphne does not let an application say these
            assert await client.closed() == 1000
        await client.ended()  # what daphne judges by itself it only drops


async def test_fragments_are_one_message_with_pings_between_them(door: Door) -> None:
    text = json.dumps({"id": 1, "command": "echo", "data": {"number": 7}}).encode()
    async with await door.open() as client:
        client.frame(Opcode.TEXT, text[:10], fin=False)
        client.frame(Opcode.PING, b"between")
        client.frame(Opcode.CONT, text[10:20], fin=False)
        client.frame(Opcode.CONT, text[20:])
        heard = dict([await client.hear(), await client.hear()])
    assert heard[Opcode.PONG] == b"between"
    assert json.loads(heard[Opcode.TEXT]) == {"id": 1, "reply": {"number": 7}}


@pytest.mark.parametrize(
    ("first", "again", "code"),
    [
        (None, Frame(Opcode.PONG, b""), 4501),
        (Frame(Opcode.TEXT, b"", fin=False), Frame(Opcode.CONT, b"", fin=False), 1009),
    ],
    ids=["pongs", "fragments"],
)
async def test_a_flood_of_frames_that_say_nothing_ends_with_its_code_and_others_are_answered(
    node: Server, first: Frame | None, again: Frame, code: int
) -> None:
    door = Door("fast", node.port, "/realtime/")
    async with await door.open() as client, await door.open() as other:
        client.write(first.serialize(mask=True) if first else b"")
        client.write(again.serialize(mask=True) * 500_000)
        assert await other.command("echo", number=1) == {"number": 1}
        assert await client.closed() == code
        await client.ended()


async def test_too_many_invalid_frames_end_the_connection_for_good(door: Door) -> None:
    async with await door.open() as client:
        for _ in range(INVALID_FRAMES_ALLOWED + 1):
            client.frame(Opcode.TEXT, b"nonsense")
        for _ in range(INVALID_FRAMES_ALLOWED + 1):
            assert (await client.message())["error"]["code"] == "invalid_frame"
        assert await client.closed() == 4501


async def test_too_many_commands_are_each_told_when_to_try_again(door: Door) -> None:
    async with await door.open() as client:
        ids = [client.send("ping") for _ in range(600)]
        answers = {answer["id"]: answer for answer in [await client.message() for _ in ids]}
        assert set(answers) == set(ids)
        refused = [answer["error"] for answer in answers.values() if "error" in answer]
        assert refused
        assert {error["code"] for error in refused} == {"rate_limited"}
        assert all(0 < error["retry_after"] <= 1 for error in refused)


async def test_a_flood_behind_a_slow_command_loses_nothing_and_keeps_its_order(door: Door) -> None:
    async with await door.open() as client, await door.open() as other:
        name = f"flood-{door.kind}"
        first = client.send("wait", group=name)
        ids = [client.send("echo", number=number) for number in range(250)]
        assert await other.command("echo", number=1) == {"number": 1}
        await other.command("open", group=name)
        assert await client.answer(first) == {"id": first, "reply": {}}
        assert [(await client.message())["id"] for _ in ids] == ids


# Order ---------------------------------------------------------------------------------------------------


async def test_events_and_replies_leave_in_the_order_of_calls(door: Door) -> None:
    async with await door.open() as client:
        group = f"order-{door.kind}"
        await client.command("join", group=group)
        heard: list[Any] = []
        for number in range(0, 100, 10):
            await client.command("publish", group=group, first=number, count=10)
        while len(client.events) < 100:
            client.events.append(await client.message())
        heard = [event["data"]["number"] for event in client.events]
    assert heard == list(range(100))


async def test_nothing_is_written_after_a_close_frame(door: Door) -> None:
    async with await door.open() as client:
        await client.command("join", group="speakers")
        client.send("speak_and_close", number=4502)
        heard = [await client.message() for _ in range(50)]
        assert [event["data"]["number"] for event in heard] == list(range(50))
        opcode, data = await client.hear()
        assert (opcode, Close.parse(data).code) == (Opcode.CLOSE, 4502)
        client.frame(Opcode.CLOSE, data[:2])
        await client.ended()


async def test_nothing_is_delivered_after_leaving(door: Door) -> None:
    group = f"leaving-{door.kind}"
    async with await door.open() as client, await door.open() as other:
        await client.command("join", group=group)
        await other.command("publish", group=group, first=1)
        assert (await client.event())["data"]["number"] == 1
        await client.command("leave", group=group)
        await other.command("publish", group=group, first=2)
        assert await client.command("echo", number=3) == {"number": 3}
        assert client.events == []


# The end -------------------------------------------------------------------------------------------------


async def test_a_client_that_closes_is_answered_and_the_consumer_told_its_code(door: Door) -> None:
    async with await door.open(f"?name=closes-{door.kind}") as client:
        client.frame(Opcode.CLOSE, Close(3456, "enough").serialize())
        assert await client.closed() == (1000 if door.kind == "daphne" else 3456)
        await client.ended()
    assert await close_code_of(door, f"closes-{door.kind}") == 3456


async def test_a_client_that_answers_our_close_ends_it(door: Door) -> None:
    async with await door.open(f"?name=answers-{door.kind}") as client:
        client.send("speak_and_close", number=4502)
        assert await client.closed() == 4502
        client.frame(Opcode.CLOSE, Close(4502, "").serialize())
        await client.ended()
    assert await close_code_of(door, f"answers-{door.kind}") == 4502


@pytest.mark.parametrize("how", ["reset", "end", "half"])
async def test_a_client_that_vanishes_is_noticed_also_in_the_middle_of_a_command(
    door: Door, how: str
) -> None:
    name = f"{how}-{door.kind}"
    async with await door.open(f"?name={name}") as client:
        client.send("echo", number=1)
        await client.message()
        client.send("wait", group="nobody opens this")
        await client.writer.drain()
        if how == "reset":
            client.reset()
        elif how == "end":
            client.writer.close()
        else:
            client.writer.write_eof()
            await client.ended()
        assert await close_code_of(door, name) in (1005, 1006)


# The internal port ---------------------------------------------------------------------------------------


def test_metrics_and_probes_are_on_the_internal_port_only(node: Server) -> None:
    assert node.get(node.internal_port, "/livez") == (200, "live\n")
    assert node.get(node.internal_port, "/readyz")[0] == 200
    assert "carillon_connections" in node.get(node.internal_port, "/metrics")[1]
    assert node.status(node.internal_port, "/elsewhere") == 404
    for path in ("/livez", "/readyz", "/metrics"):
        assert node.status(node.port, path) == 404


async def test_metrics_tell_of_connections_and_of_fan_out(node: Server) -> None:
    names = {
        "now": 'carillon_connections{path="fast"}',
        "opened": 'carillon_connections_opened_total{path="fast"}',
        "closed": 'carillon_connections_closed_total{code="1001"}',
        "publishes": "carillon_publishes_total",
        "deliveries": "carillon_fanout_deliveries_total",
        "subscriptions": "carillon_subscriptions",
    }

    def read() -> dict[str, float]:
        return {name: node.metric(sample) for name, sample in names.items()}

    async def nobody() -> bool:
        return node.metric(names["now"]) == 0

    await until(nobody)
    before = read()
    clients = [await Client.connect(node.port, "/realtime/") for _ in range(3)]
    for client in clients:
        await client.hello()
        await client.command("join", group="counted")
    await clients[0].command("publish", group="counted", first=0, count=4)
    for client in clients:
        for _ in range(4):
            await client.event()
    during = read()
    assert {name: during[name] - before[name] for name in names} == {
        "now": 3,
        "opened": 3,
        "closed": 0,
        "publishes": 4,
        "deliveries": 12,
        "subscriptions": 3,
    }
    for client in clients:
        client.frame(Opcode.CLOSE, Close(1001, "").serialize())
        assert await client.closed() == 1001
        await client.ended()
    await until(nobody)
    after = read()
    assert after["closed"] == before["closed"] + 3
    assert after["subscriptions"] == before["subscriptions"]
    for client in clients:
        client.writer.close()


async def test_a_refused_stock_connection_was_never_opened(node: Server) -> None:
    sample = 'carillon_connections_opened_total{path="stock"}'
    before = node.metric(sample)
    async with await Client.connect(node.port, "/stock/"):
        assert node.metric(sample) == before + 1
    async with await Client.open(node.port) as client:
        client.write(upgrade_request("/nowhere/"))
        status, _ = await client.response()
        assert status.startswith("HTTP/1.1 500 ")
    assert node.metric(sample) == before + 1


# Signs of life, and the end of processes -----------------------------------------------------------------


async def test_a_client_that_answers_pings_stays_and_a_silent_one_is_cut_off() -> None:
    with server(PING_SECONDS="0.3") as one:
        async with (
            await Client.connect(one.port, "/realtime/") as lively,
            await Client.connect(one.port, "/realtime/") as silent,
        ):
            await lively.hello()
            await silent.hello()
            for _ in range(6):
                opcode, data = await lively.hear()
                assert opcode is Opcode.PING
                lively.frame(Opcode.PONG, data)
            assert await silent.hear() == (Opcode.PING, b"")
            await silent.ended()
            sample = 'carillon_connections_closed_total{code="4001"}'
            assert one.metric(sample) == 1
            assert await lively.command("echo", number=1) == {"number": 1}


async def test_a_worker_that_is_killed_is_replaced() -> None:
    with server() as one:
        async with await Client.connect(one.port, "/realtime/") as client:
            await client.hello()
            first = (await client.command("leftovers"))["pid"]
            os.kill(first, signal.SIGKILL)
            await client.ended()
        assert wait_until(lambda: one.status(one.internal_port, "/readyz") == 200, PATIENCE)
        async with await Client.connect(one.port, "/realtime/") as client:
            await client.hello()
            assert (await client.command("leftovers"))["pid"] != first


async def test_a_worker_whose_master_is_killed_says_goodbye_and_leaves() -> None:
    with server(SHUTDOWN_SECONDS="1") as one:
        async with await Client.connect(one.port, "/realtime/") as client:
            await client.hello()
            worker = (await client.command("leftovers"))["pid"]
            os.kill(one.process.pid, signal.SIGKILL)
            assert await client.closed() == 1012
        assert wait_until(lambda: not _alive(worker), PATIENCE)


async def test_a_gunicorn_that_ends_quickly_says_goodbye_too() -> None:
    with server(SHUTDOWN_SECONDS="1") as one:
        async with await Client.connect(one.port, "/realtime/") as client:
            await client.hello()
            os.kill(one.process.pid, signal.SIGINT)
            assert await client.closed() == 1012
        assert wait_until(lambda: not one.process.alive, PATIENCE)
        assert one.process.exit_code == 0
        assert not [line for line in one.log if "SIGKILL" in line]


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
