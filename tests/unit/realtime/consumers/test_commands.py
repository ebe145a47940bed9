"""Commands are carried out, answered in order, or refused in words."""

import pytest

from app.realtime import close_codes
from app.realtime.consumers import RealtimeConsumer
from app.realtime.handlers import command
from app.realtime.protocol import INVALID_FRAMES_ALLOWED, CommandError
from tests.unit.realtime.consumers.clients import Connect, sample
from tests.unit.realtime.consumers.kinds import Clings, Consumer
from tests.unit.realtime.consumers.wires import settle, until


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
