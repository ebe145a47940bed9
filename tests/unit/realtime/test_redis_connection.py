"""One connection to Redis: answers find their questions, and every way to lose it is noticed, once."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.realtime.redis_connection import (
    Credentials,
    ErrorAnswer,
    RedisConnection,
    RedisError,
    RedisLost,
    open_connection,
    pack,
)
from tests.broker_contract import PATIENCE, eventually
from tests.unit.realtime.fake_redis import HELLO, Answer, FakeRedis, behave, push, silent_after_hello

SOON = 0.1
NOBODY = Credentials("test")
Batch = list[Sequence[bytes]]


@asynccontextmanager
async def connected(
    answer: Answer = behave, pushed: Callable[[Batch], None] = lambda _: None
) -> AsyncIterator[tuple[FakeRedis, RedisConnection, list[str]]]:
    """A server, a connection to it, and why that was lost; for as long as a test may take."""
    async with asyncio.timeout(PATIENCE), FakeRedis.serving(answer) as server:
        connection = await open_connection(server.address, NOBODY, PATIENCE, pushed)
        lost: list[str] = []
        connection.lost = lost.append
        yield server, connection, lost
        connection.abort("closed")
        await connection.closed


async def refused_by(answer: Answer, credentials: Credentials = NOBODY, seconds: float = PATIENCE) -> str:
    """The text with which opening a connection fails."""
    async with FakeRedis.serving(answer) as server:
        with pytest.raises(RedisError) as refusal:
            await open_connection(server.address, credentials, seconds, lambda _: None)
    return str(refusal.value)


def always(answer: bytes, _: list[bytes]) -> bytes:
    return answer


# Saying hello.


async def test_hello_names_the_client_and_sends_no_credentials_when_there_are_none() -> None:
    async with connected() as (server, _, _):
        assert server.commands == [[b"HELLO", b"3", b"SETNAME", b"test"]]


@pytest.mark.parametrize(("username", "sent"), [("", b"default"), ("node", b"node")])
async def test_hello_carries_the_password(username: str, sent: bytes) -> None:
    async with FakeRedis.serving() as server:
        connection = await open_connection(
            server.address, Credentials("test", username, "secret"), PATIENCE, lambda _: None
        )
        assert server.commands == [[b"HELLO", b"3", b"AUTH", sent, b"secret", b"SETNAME", b"test"]]
        connection.abort("closed")


async def test_a_wrong_password_is_said_without_the_password() -> None:
    text = await refused_by(lambda _: b"-WRONGPASS invalid password\r\n", Credentials("test", "u", "hunter2"))
    assert "WRONGPASS" in text and "hunter2" not in text


async def test_a_redis_that_is_too_old_is_told_so() -> None:
    for words in (b"-ERR unknown command `HELLO`\r\n", b"-NOPROTO unsupported protocol version\r\n"):
        assert "version 6.0 or newer is needed" in await refused_by(partial(always, words))


async def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    assert "did not answer within 0.1 s" in await refused_by(lambda _: b"", seconds=SOON)


async def test_a_server_that_hangs_up_at_hello_is_named() -> None:
    async with FakeRedis.serving() as server:
        server.answer = lambda _: server.clients[0].close() or b""  # type: ignore[func-returns-value]
        with pytest.raises(RedisLost, match="was lost: closed"):
            await open_connection(server.address, NOBODY, PATIENCE, lambda _: None)


async def test_a_server_that_is_not_there_is_named() -> None:
    async with FakeRedis.serving() as server:
        address = server.address
    with pytest.raises(RedisError, match=rf"Redis at 127.0.0.1:{address[1]} cannot be reached"):
        await open_connection(address, NOBODY, PATIENCE, lambda _: None)


# Questions and answers.


async def test_answers_come_to_those_who_asked_in_their_order() -> None:
    async with connected(lambda c: HELLO if c[0] == b"HELLO" else b"+" + c[1] + b"\r\n") as (_, redis, _):
        answers = await asyncio.gather(*[redis.execute("ECHO", str(n)) for n in range(100)])
        assert answers == [b"%d" % n for n in range(100)]


async def test_an_error_belongs_to_its_own_command_only() -> None:
    async with connected() as (server, redis, _):
        server.answer = lambda c: b"-ERR no\r\n" if c[0] == b"BAD" else b"+OK\r\n"
        bad, good = asyncio.create_task(redis.execute("BAD")), asyncio.create_task(redis.execute("GOOD"))
        assert await good == b"OK"
        with pytest.raises(RedisError, match="refused BAD: ERR no"):
            await bad


async def test_one_who_no_longer_waits_does_not_shift_the_answers_of_others() -> None:
    async with connected() as (server, redis, _):
        server.answer = lambda _: b""
        impatient = asyncio.create_task(redis.execute("FIRST"))
        patient = asyncio.create_task(redis.execute("SECOND"))
        await eventually(lambda: len(server.commands) == 3, "both commands have arrived")
        impatient.cancel()
        server.say(b"+first\r\n+second\r\n")
        assert await patient == b"second"


async def test_what_is_pushed_between_answers_arrives_as_one_batch_and_confuses_nobody() -> None:
    batches: list[Batch] = []
    async with connected(pushed=batches.append) as (server, redis, _):
        server.answer = lambda _: (
            push(b"message", b"c", b"1") + b"+one\r\n" + push(b"message", b"c", b"2") + push(b"other", b"x")
        )
        assert await redis.execute("ONE") == b"one"
        assert batches == [[[b"message", b"c", b"1"], [b"message", b"c", b"2"]]]


async def test_an_answer_in_pieces_is_one_answer() -> None:
    async with connected() as (server, redis, _):
        server.answer = lambda _: b"$8\r\nto"
        answer = asyncio.create_task(redis.execute("GET"))
        await eventually(lambda: len(server.commands) == 2, "the command has arrived")
        for piece in (b"get", b"her", b"\r", b"\n"):
            assert not answer.done()
            server.say(piece)
            await asyncio.sleep(0)
        assert await answer == b"together"


async def test_a_subscription_is_done_when_every_channel_is_confirmed() -> None:
    async with connected() as (_, redis, _):
        subscribed = redis.send(pack("SUBSCRIBE", "a", "b"), 2, by_push=True)
        assert await redis.execute("ROLE")
        assert [answer[1] for answer in subscribed.result()] == [b"a", b"b"]


async def test_a_refused_subscription_ends_there_and_the_next_answer_is_the_next_commands() -> None:
    async with connected() as (server, redis, _):
        server.answer = lambda c: b"-NOPERM no\r\n" if c[0] == b"SUBSCRIBE" else b"+OK\r\n"
        refused = redis.send(pack("SUBSCRIBE", "a", "b"), 2, by_push=True)
        assert await redis.execute("PING") == b"OK"
        assert [type(answer) for answer in refused.result()] == [ErrorAnswer]


# Losing it.


async def test_the_loss_is_told_once_and_leaves_nobody_waiting() -> None:
    async with connected() as (server, redis, lost):
        server.answer = lambda _: b""
        waiting = asyncio.create_task(redis.execute("GET"))
        await eventually(lambda: len(server.commands) == 2, "the command has arrived")
        server.clients[0].abort()
        with pytest.raises(RedisLost):
            await waiting
        redis.abort("late")
        await redis.closed
        assert lost == ["closed"]
        assert redis.send(pack("GET"), 1).result() == []


async def test_of_many_commands_those_that_were_answered_are_known_after_the_loss() -> None:
    async with connected() as (server, redis, _):
        answers = iter([b":1\r\n", b":2\r\n"])
        server.answer = lambda _: next(answers, b"")
        sent = redis.send(pack("PUBLISH") * 5, 5)
        await eventually(lambda: len(server.commands) == 6, "all commands have arrived")
        assert not sent.done()
        server.clients[0].close()
        assert await sent == [1, 2]


@pytest.mark.parametrize(
    "noise", [b"HTTP/1.1 400 Bad Request\r\n", b"+nobody asked\r\n", push(b"subscribe", b"c")]
)
async def test_what_is_not_an_answer_ends_the_connection(noise: bytes) -> None:
    async with connected() as (server, _, lost):
        server.say(noise)
        await eventually(lambda: lost, "the connection is given up")
        assert lost == ["protocol_error"]


async def test_nothing_is_delivered_after_the_loss() -> None:
    batches: list[Batch] = []
    async with connected(pushed=batches.append) as (server, redis, _):
        server.say(push(b"message", b"c", b"1"))
        redis.abort("moved")
        await redis.closed
        assert batches == []


# Signs of life.


async def test_a_server_that_hangs_is_given_up() -> None:
    async with connected(silent_after_hello) as (_, redis, lost):
        redis.watch(SOON, "ROLE", lambda _: "")
        await eventually(lambda: lost, "the connection is given up")
        assert lost == ["ping_timeout"]


async def test_a_server_that_answers_is_kept_and_asked_again() -> None:
    async with connected() as (server, redis, lost):
        redis.watch(SOON, "ROLE", lambda _: "")
        await eventually(lambda: server.names().count(b"ROLE") == 5, "it was asked five times")
        assert lost == []


async def test_a_server_too_busy_to_answer_but_not_to_push_is_alive() -> None:
    async with connected(silent_after_hello) as (server, redis, lost):
        redis.watch(SOON, "ROLE", lambda _: "")
        for _ in range(20):
            server.say(push(b"message", b"c", b"1"))
            await asyncio.sleep(SOON / 5)
        assert lost == []


async def test_after_a_stall_of_the_loop_an_answer_that_waits_to_be_read_is_in_time() -> None:
    async with connected() as (server, redis, lost):
        redis.watch(1.0, "ROLE", lambda _: "")
        # As uvloop does it after a stall: timers that are due run before what has arrived is read.
        redis._beat(1.0, pack("ROLE"), lambda _: "")
        await eventually(lambda: server.names().count(b"ROLE") == 2, "it is asked again")
        assert lost == []


async def test_an_answer_that_is_judged_bad_ends_the_connection_for_that_reason() -> None:
    async with connected() as (_, redis, lost):
        redis.watch(SOON, "ROLE", lambda answer: "demoted" if answer[0] == b"master" else "")
        await eventually(lambda: lost, "the connection is given up")
        assert lost == ["demoted"]


# TLS.


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, private


async def test_over_tls_a_server_is_trusted_only_when_its_authority_is(tmp_path: Path) -> None:
    ours, key = certificate(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(ours, key)
    async with FakeRedis.serving(tls=server_side) as server:
        trusting = Credentials("test", tls=ssl.create_default_context(cafile=str(ours)))
        connection = await open_connection(server.address, trusting, PATIENCE, lambda _: None)
        assert await connection.execute("PING") == b"OK"
        connection.abort("closed")
        await connection.closed
        strict = Credentials("test", tls=ssl.create_default_context())
        with pytest.raises(RedisError, match="certificate verify failed"):
            await open_connection(server.address, strict, PATIENCE, lambda _: None)
