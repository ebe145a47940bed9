"""The direct connection on a transport that can be full whenever a test wants it to be."""

import asyncio
import gc
import math
import weakref

import pytest
from prometheus_client import REGISTRY
from websockets.frames import Close, Opcode

from app.realtime import close_codes
from app.realtime.connection import Batch
from app.realtime.event import Delivery, EncodedEvent
from app.serving import direct_connection
from app.serving.direct_connection import (
    CONTROL_FRAMES_ALLOWED,
    FRAGMENTS_ALLOWED,
    TURN_BYTES,
    DirectConnection,
)
from tests.unit.serving.transport import FakeTransport, Receiver, from_client

FRAME_LIMIT = 1_000


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def connection(transport: FakeTransport, receiver: Receiver) -> DirectConnection:
    return DirectConnection(transport, receiver, set(), 5_000, FRAME_LIMIT)


def batch(*texts: str, delivery: Delivery = Delivery.DURABLE, key: str = "") -> Batch:
    return Batch([EncodedEvent(text.encode(), delivery, key) for text in texts])


def slow_consumers(policy: str) -> float:
    return REGISTRY.get_sample_value("carillon_slow_consumers_total", {"policy": policy}) or 0.0


# What leaves ---------------------------------------------------------------------------------------------


async def test_every_frame_leaves_in_the_order_of_calls(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.send(b"reply")
    connection.deliver(batch("first", "second"))
    connection.send(b"another reply")
    connection.deliver(batch("third"))
    connection.close(close_codes.DRAIN)
    assert transport.texts() == ["reply", "first", "second", "another reply", "third"]
    assert transport.frames()[-1].opcode is Opcode.CLOSE


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
async def test_a_text_of_any_size_arrives_whole(
    connection: DirectConnection, transport: FakeTransport, size: int
) -> None:
    connection.send(b"x" * size)
    connection.deliver(batch("y" * size))
    assert transport.texts() == ["x" * size, "y" * size]


async def test_nothing_is_written_after_a_close_frame(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.close(close_codes.DRAIN)
    written = list(transport.written)
    connection.send(b"reply")
    connection.deliver(batch("event"))
    connection.close(close_codes.SLOW_CONSUMER)
    connection.shutdown()
    connection.ping()
    connection.data_received(from_client(Opcode.PING, b"are you there?"))
    connection.pause_writing()
    connection.deliver(batch("latest", delivery=Delivery.LATEST))
    connection.resume_writing()
    assert transport.written == written
    assert transport.close_codes() == [close_codes.DRAIN]


async def test_a_close_code_that_may_not_be_sent_leaves_the_connection_as_it_was(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    with pytest.raises(Exception, match="invalid"):
        connection.close(1006)
    connection.send(b"still here")
    assert transport.texts() == ["still here"]


# What arrives --------------------------------------------------------------------------------------------


async def test_a_message_may_come_in_any_number_of_reads(
    connection: DirectConnection, receiver: Receiver
) -> None:
    for byte in from_client(Opcode.TEXT, b"one") + from_client(Opcode.TEXT, b"two"):
        connection.data_received(bytes([byte]))
    assert receiver.received == [b"one", b"two"]


async def test_many_messages_may_come_in_one_read(connection: DirectConnection, receiver: Receiver) -> None:
    connection.data_received(from_client(Opcode.TEXT, b"one") + from_client(Opcode.TEXT, b"two"))
    assert receiver.received == [b"one", b"two"]


async def test_fragments_are_one_message_also_with_pings_between_them(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    snowman = "☃".encode()
    connection.data_received(from_client(Opcode.TEXT, b"a" + snowman[:1], fin=False))
    connection.data_received(from_client(Opcode.PING, b"?"))
    connection.data_received(from_client(Opcode.CONT, b"", fin=False))
    connection.data_received(from_client(Opcode.CONT, snowman[1:]))
    assert receiver.received == [b"a" + snowman]
    assert [(frame.opcode, bytes(frame.data)) for frame in transport.frames()] == [(Opcode.PONG, b"?")]


async def test_a_message_has_so_many_fragments_and_the_next_as_many_again(
    connection: DirectConnection, receiver: Receiver
) -> None:
    parts = [from_client(Opcode.CONT, b"x", fin=False)] * (FRAGMENTS_ALLOWED - 2)
    message = b"".join([from_client(Opcode.TEXT, b"", fin=False), *parts, from_client(Opcode.CONT, b"x")])
    connection.data_received(message)
    connection.data_received(message)
    assert receiver.received == [b"x" * (FRAGMENTS_ALLOWED - 1)] * 2


@pytest.mark.parametrize("kind", [Opcode.TEXT, Opcode.BINARY])
async def test_empty_fragments_without_end_close_with_1009_and_nothing_behind_them_is_read(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver, kind: Opcode
) -> None:
    connection.data_received(from_client(kind, b"", fin=False))
    connection.data_received(from_client(Opcode.CONT, b"", fin=False) * FRAGMENTS_ALLOWED)
    assert transport.close_codes() == [1009 if kind is Opcode.TEXT else 1003]
    assert not transport.reading
    connection.connection_lost(None)
    assert receiver.received == []


@pytest.mark.parametrize("kind", [Opcode.PING, Opcode.PONG])
async def test_so_many_control_frames_between_two_pings_of_ours_and_no_more(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver, kind: Opcode
) -> None:
    for _ in range(2):
        connection.ping()
        for _ in range(10):
            connection.data_received(from_client(kind) * (CONTROL_FRAMES_ALLOWED // 10))
    assert transport.close_codes() == []
    connection.data_received(from_client(kind))
    assert transport.close_codes() == [close_codes.TOO_MANY_INVALID_FRAMES]
    assert not transport.reading
    connection.connection_lost(None)
    assert receiver.lost == [close_codes.TOO_MANY_INVALID_FRAMES]


async def test_who_floods_behind_a_close_is_read_no_more(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.close(close_codes.DRAIN)
    for _ in range(11):
        connection.data_received(from_client(Opcode.PONG) * (CONTROL_FRAMES_ALLOWED // 10))
    assert transport.close_codes() == [close_codes.DRAIN]
    assert not transport.reading


async def test_one_turn_of_the_loop_parses_so_much_and_reads_on_behind_the_rest(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    texts = [b"%d" % number for number in range(5_000)]
    read = b"".join(from_client(Opcode.TEXT, text) for text in texts)
    connection.data_received(read)
    turns = 1
    while len(receiver.received) < len(texts):
        assert not transport.reading
        before = len(receiver.received)
        await asyncio.sleep(0)
        assert sum(6 + len(text) for text in receiver.received[before:]) < TURN_BYTES + 10
        turns += 1
    assert receiver.received == texts
    assert turns == math.ceil(len(read) / TURN_BYTES)
    assert transport.reading


async def test_a_consumer_that_takes_no_more_gets_no_more_of_what_was_read_either(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    connection.data_received(from_client(Opcode.TEXT, b"x") * 2_500)
    connection.pause_reading()
    taken = len(receiver.received)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(receiver.received) == taken < 2_500
    for _ in range(3):  # however often it is said, a turn is a turn
        connection.resume_reading()
    assert not transport.reading
    await asyncio.sleep(0)
    assert len(receiver.received) < 2_500 - 1
    await asyncio.sleep(0)
    assert len(receiver.received) == 2_500
    assert transport.reading


async def test_the_answer_to_a_close_is_seen_behind_what_was_not_yet_parsed(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    text = from_client(Opcode.TEXT, b"x") * 2_500
    connection.data_received(text + from_client(Opcode.CLOSE, Close(1000, "").serialize()))
    connection.pause_reading()
    connection.close(close_codes.DRAIN)
    for _ in range(2):
        assert not transport.closed
        await asyncio.sleep(0)
    assert transport.closed and not transport.aborted


async def test_what_is_not_yet_parsed_goes_with_the_connection(
    connection: DirectConnection, receiver: Receiver
) -> None:
    connection.data_received(from_client(Opcode.TEXT, b"x") * 5_000)
    taken = len(receiver.received)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert len(receiver.received) == taken


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (from_client(Opcode.BINARY, b"\0"), close_codes.UNSUPPORTED_DATA),
        (from_client(Opcode.TEXT, b"\xff"), close_codes.INVALID_TEXT),
        (from_client(Opcode.TEXT, b"\xe2", fin=False) + from_client(Opcode.CONT, b"x"), 1007),
        (from_client(Opcode.TEXT, b"x" * (FRAME_LIMIT + 1)), close_codes.TOO_BIG),
        (
            from_client(Opcode.TEXT, b"x" * FRAME_LIMIT, fin=False) + from_client(Opcode.CONT, b"x"),
            close_codes.TOO_BIG,
        ),
        (from_client(Opcode.CONT, b"x"), close_codes.PROTOCOL_ERROR),
        (b"\x81\x01x", close_codes.PROTOCOL_ERROR),
        (b"\xc1\x80\0\0\0\0", close_codes.PROTOCOL_ERROR),
        (b"\x83\x80\0\0\0\0", close_codes.PROTOCOL_ERROR),
        (b"\x88\x81\0\0\0\0x", close_codes.PROTOCOL_ERROR),
    ],
    ids=[
        "bytes",
        "no UTF-8",
        "no UTF-8 across fragments",
        "too big",
        "too big in fragments",
        "a fragment of nothing",
        "not masked",
        "a reserved bit",
        "an unknown opcode",
        "a close of one byte",
    ],
)
async def test_a_frame_against_the_rules_closes_with_its_code(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver, frames: bytes, code: int
) -> None:
    connection.data_received(frames + from_client(Opcode.TEXT, b"never read"))
    assert transport.close_codes() == [code]
    assert receiver.received == []
    connection.connection_lost(None)
    assert receiver.lost == [code]


async def test_a_text_as_long_as_allowed_is_read(connection: DirectConnection, receiver: Receiver) -> None:
    connection.data_received(from_client(Opcode.TEXT, b"x" * FRAME_LIMIT))
    assert receiver.received == [b"x" * FRAME_LIMIT]


# Closing -------------------------------------------------------------------------------------------------


async def test_a_close_from_the_client_is_answered_and_ends_the_connection(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    connection.data_received(
        from_client(Opcode.TEXT, b"last words")
        + from_client(Opcode.CLOSE, Close(1001, "").serialize())
        + from_client(Opcode.TEXT, b"never read")
    )
    assert receiver.received == [b"last words"]
    assert transport.close_codes() == [1001]
    assert transport.closed and not transport.aborted
    connection.connection_lost(None)
    assert receiver.lost == [1001]


async def test_our_close_ends_with_the_clients_answer(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    connection.close(close_codes.IDENTITY_REVOKED)
    connection.data_received(from_client(Opcode.TEXT, b"sent before it knew"))
    assert not transport.closed
    connection.data_received(from_client(Opcode.CLOSE, Close(1000, "").serialize()))
    assert transport.closed and not transport.aborted
    connection.connection_lost(None)
    assert receiver.received == []
    assert receiver.lost == [close_codes.IDENTITY_REVOKED]


async def test_a_client_that_does_not_answer_a_close_is_cut_off(
    connection: DirectConnection, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_connection, "CLOSE_SECONDS", 0.01)
    connection.close(close_codes.DRAIN)
    await transport.cut_off()


async def test_a_close_reads_on_so_that_its_answer_is_seen(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.pause_reading()
    connection.close(close_codes.DRAIN)
    assert transport.reading


async def test_a_client_that_only_shuts_its_side_gets_what_is_unsent_and_nothing_more(
    connection: DirectConnection,
    transport: FakeTransport,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct_connection, "CLOSE_SECONDS", 0.01)
    connection.send(b"before")
    connection.eof_received()
    connection.send(b"after")
    connection.deliver(batch("after"))
    assert transport.texts() == ["before"]
    await transport.cut_off()
    connection.connection_lost(None)
    assert receiver.lost == [close_codes.ABNORMAL]


def test_a_connection_that_is_gone_is_freed_at_once(transport: FakeTransport, receiver: Receiver) -> None:
    class Owner(Receiver):
        connection: DirectConnection

    async def live() -> "weakref.ref[Owner]":
        owner = Owner()
        owner.connection = DirectConnection(transport, owner, set(), 5_000, FRAME_LIMIT)
        owner.connection.data_received(from_client(Opcode.TEXT, b"x"))
        owner.connection.connection_lost(None)
        return weakref.ref(owner)

    gc.disable()
    try:
        assert asyncio.run(live())() is None, "waits for the garbage collector"
    finally:
        gc.enable()


# Slow consumers ------------------------------------------------------------------------------------------


async def test_the_budget_is_the_transports_high_water_mark(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    assert transport.limit == 5_000


async def test_over_the_budget_a_durable_event_ends_the_connection(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    closed = slow_consumers("closed")
    connection.pause_writing()
    connection.deliver(batch("durable", "durable"))
    assert transport.aborted
    assert transport.written == []
    assert slow_consumers("closed") == closed + 1
    connection.connection_lost(None)
    assert receiver.lost == [close_codes.SLOW_CONSUMER]


async def test_over_the_budget_a_reply_ends_the_connection(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.pause_writing()
    connection.send(b"reply")
    assert transport.aborted and transport.written == []


async def test_a_client_that_pings_and_never_reads_is_ended_too(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    connection.pause_writing()
    connection.data_received(from_client(Opcode.PING, b"?") * 100)
    assert transport.aborted and transport.written == []
    connection.connection_lost(None)
    assert receiver.lost == [close_codes.SLOW_CONSUMER]


async def test_over_the_budget_the_newest_latest_event_of_each_key_is_kept(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    coalesced = slow_consumers("coalesced")
    connection.pause_writing()
    for price in ("1", "2", "3"):
        connection.deliver(batch(f"gold {price}", delivery=Delivery.LATEST, key="gold"))
        connection.deliver(batch(f"tin {price}", delivery=Delivery.LATEST, key="tin"))
    assert transport.written == []
    connection.resume_writing()
    assert transport.texts() == ["gold 3", "tin 3"]
    assert slow_consumers("coalesced") == coalesced + 6
    connection.deliver(batch("gold 4", delivery=Delivery.LATEST, key="gold"))
    assert transport.texts()[2:] == ["gold 4"]


async def test_over_the_budget_a_droppable_event_is_dropped_and_counted(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    dropped = slow_consumers("dropped")
    connection.pause_writing()
    connection.deliver(batch("typing", "typing", delivery=Delivery.DROPPABLE))
    connection.resume_writing()
    connection.send(b"reply")
    assert transport.texts() == ["reply"]
    assert slow_consumers("dropped") == dropped + 2


async def test_a_slow_client_can_still_be_closed(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.pause_writing()
    connection.shutdown()
    assert transport.close_codes() == [close_codes.DRAIN]


async def test_who_is_let_go_hears_when_to_come_back_and_nothing_of_theirs_runs_from_then_on(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    assert connection.releasable
    connection.release(1.25)
    assert not connection.releasable
    connection.data_received(from_client(Opcode.TEXT, b"too late") * 2)
    connection.send(b"reply")
    assert transport.texts() == ['{"event":"connection.released","data":{"retry_after":1.25}}']
    assert transport.close_codes() == [close_codes.DRAIN]
    assert receiver.received == []


async def test_who_is_far_behind_is_let_go_with_the_close_alone(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.pause_writing()
    connection.release(1.0)
    assert transport.texts() == []
    assert transport.close_codes() == [close_codes.DRAIN]


@pytest.mark.parametrize(("code", "counted"), [(close_codes.DRAIN, 1), (close_codes.SLOW_CONSUMER, 0)])
async def test_who_does_not_take_their_leave_is_cut_off_and_counted(
    connection: DirectConnection,
    transport: FakeTransport,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    counted: int,
) -> None:
    monkeypatch.setattr(direct_connection, "CLOSE_SECONDS", 0)
    before = REGISTRY.get_sample_value("carillon_releases_cut_off_total") or 0
    connection.close(code)
    await transport.cut_off()
    assert REGISTRY.get_sample_value("carillon_releases_cut_off_total") == before + counted


# Signs of life -------------------------------------------------------------------------------------------


async def test_a_client_that_answers_pings_stays(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    for _ in range(3):
        connection.ping()
        connection.data_received(from_client(Opcode.PONG))
    assert [frame.opcode for frame in transport.frames()] == [Opcode.PING] * 3
    assert not transport.closed


async def test_a_client_that_does_not_answer_a_ping_is_cut_off(
    connection: DirectConnection, transport: FakeTransport, receiver: Receiver
) -> None:
    connection.ping()
    assert not transport.closed
    connection.ping()
    assert transport.aborted
    connection.connection_lost(None)
    assert receiver.lost == [close_codes.PONG_TIMEOUT]


async def test_a_client_whose_frames_are_not_read_is_not_blamed_for_silence(
    connection: DirectConnection, transport: FakeTransport
) -> None:
    connection.pause_reading()
    connection.ping()
    connection.ping()
    assert not transport.closed


# Counting ------------------------------------------------------------------------------------------------


async def test_open_connections_are_counted_and_registered(
    transport: FakeTransport, receiver: Receiver
) -> None:
    def count(metric: str) -> float:
        return REGISTRY.get_sample_value(metric, {"path": "fast"}) or 0.0

    open_before, opened_before = count("carillon_connections"), count("carillon_connections_opened_total")
    registry: set[DirectConnection] = set()
    connection = DirectConnection(transport, receiver, registry, 5_000, FRAME_LIMIT)
    assert registry == {connection}
    assert count("carillon_connections") == open_before + 1
    assert count("carillon_connections_opened_total") == opened_before + 1
    connection.connection_lost(None)
    assert registry == set()
    assert count("carillon_connections") == open_before
