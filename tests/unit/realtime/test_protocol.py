from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.protocol import (
    DEPTH_LIMIT,
    ERROR_CODES,
    CommandError,
    InvalidFrame,
    decode_command,
    encode_error,
    encode_reply,
)


def decoded(payload: bytes) -> Any:
    return msgspec.json.decode(payload)


def refusal(frame: bytes) -> InvalidFrame:
    with pytest.raises(InvalidFrame) as refused:
        decode_command(frame)
    assert refused.value.code == "invalid_frame"
    return refused.value


def test_a_command_has_an_id_a_name_and_data_that_stays_undecoded() -> None:
    command = decode_command(b'{"id": 7, "command": "chat.join_room", "data": {"room": "lobby"}}')
    assert (command.id, command.command) == (7, "chat.join_room")
    assert bytes(command.data) == b'{"room": "lobby"}'


def test_data_may_be_left_out() -> None:
    assert bytes(decode_command(b'{"id": 1, "command": "ping"}').data) == b"{}"


@pytest.mark.parametrize("number", [1, 2**53])
def test_an_id_may_be_any_number_that_javascript_counts_exactly(number: int) -> None:
    assert decode_command(b'{"id": %d, "command": "ping"}' % number).id == number


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (b"", "truncated"),
        (b"hello", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "object"),
        (b"{}", "id"),
        (b'{"id": 1}', "command"),
        (b'{"command": "ping"}', "id"),
        (b'{"id": 0, "command": "ping"}', "$.id"),
        (b'{"id": -1, "command": "ping"}', "$.id"),
        (b'{"id": %d, "command": "ping"}' % (2**53 + 1), "$.id"),
        (b'{"id": "1", "command": "ping"}', "$.id"),
        (b'{"id": 1.5, "command": "ping"}', "$.id"),
        (b'{"id": true, "command": "ping"}', "$.id"),
        (b'{"id": null, "command": "ping"}', "$.id"),
        (b'{"id": 1, "command": 1}', "$.command"),
        (b'{"id": 1, "command": "%s"}' % (b"x" * 65), "$.command"),
        (b'{"id": 1, "command": "ping", "extra": 1}', "extra"),
        (b'{"id": 1, "command": "ping"} {}', "trailing"),
        (b'{"id": 1, "command": "ping", "data": {"a": }}', "malformed"),
    ],
)
def test_a_frame_that_is_no_command_is_refused_and_told_why(frame: bytes, named: str) -> None:
    message = refusal(frame).message
    assert message.startswith("expected a command: ")
    assert named in message


def test_a_frame_may_nest_as_deep_as_the_limit_and_no_deeper() -> None:
    frame = b'{"id": 1, "command": "ping", "data": %s}'
    deep = DEPTH_LIMIT - 1
    assert decode_command(frame % (b"[" * deep + b"]" * deep)).id == 1
    assert "32 levels" in refusal(frame % (b"[" * (deep + 1) + b"]" * (deep + 1))).message
    assert "32 levels" in refusal(frame % (b"[" * 30_000 + b"]" * 30_000)).message


def test_brackets_in_a_text_are_no_levels() -> None:
    text = rb"\\[{\" [[" * 100
    assert decode_command(b'{"id": 1, "command": "chat", "data": {"text": "%s"}}' % text).id == 1


@pytest.mark.parametrize(
    ("frame", "command_id"),
    [
        (b'{"id": 4, "command": "ping", "extra": 1}', 4),
        (b'{"id": 4}', 4),
        (b'{"id": 4, "command": 5}', 4),
        (b'{"id": 0, "command": "ping"}', None),
        (b'{"id": "4", "command": "ping"}', None),
        (b'{"id": 4, "command"', None),
        (b"[4]", None),
    ],
)
def test_a_refused_frame_is_answered_by_its_id_if_that_can_be_read(
    frame: bytes, command_id: int | None
) -> None:
    assert refusal(frame).command_id == command_id


@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_command_or_a_refusal(frame: bytes) -> None:
    with suppress(CommandError):
        assert decode_command(frame).id >= 1


def test_a_reply_carries_the_id_of_its_command() -> None:
    assert decoded(encode_reply(3, {"room": "lobby"})) == {"id": 3, "reply": {"room": "lobby"}}


def test_a_reply_with_nothing_to_say_is_an_empty_object() -> None:
    assert decoded(encode_reply(3, None)) == {"id": 3, "reply": {}}


def test_an_error_has_a_code_and_a_message() -> None:
    error = CommandError("not_found", "open it first")
    assert decoded(encode_error(3, error)) == {
        "id": 3,
        "error": {"code": "not_found", "message": "open it first"},
    }


def test_an_error_for_a_frame_without_a_readable_id_has_none() -> None:
    assert decoded(encode_error(None, CommandError("invalid_frame", "what?")))["id"] is None


@given(st.floats(0, 3600))
def test_retry_after_is_never_too_early_and_a_millisecond_late_at_most(seconds: float) -> None:
    error = CommandError("rate_limited", "slowly", retry_after=seconds)
    told = decoded(encode_error(1, error))["error"]["retry_after"]
    assert seconds <= told <= seconds + 0.0011


def test_a_code_that_is_not_in_the_catalogue_cannot_be_raised() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        CommandError("oops", "what is this?")


@pytest.mark.parametrize("code", ERROR_CODES)
def test_every_code_of_the_catalogue_can_be_raised(code: str) -> None:
    assert CommandError(code, "text").code == code
