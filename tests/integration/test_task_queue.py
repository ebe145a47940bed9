"""The queue between nodes and workers, on real servers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull, MessageTooLarge
from channels_redis.utils import create_pool
from prometheus_client import REGISTRY
from redis.asyncio import SSLConnection

from app.realtime.broker import BusUnavailable
from app.realtime.task_queue import TaskQueue
from deploy.local.redis_servers import RedisServers
from tests.channel_layer_settings import channel_layers_for


def queue_on(servers: RedisServers, **config: Any) -> TaskQueue:
    """The queue as the settings make it, but for `config`."""
    return TaskQueue(**channel_layers_for("fanout", servers)["tasks"]["CONFIG"] | config)


@pytest.fixture
async def queue(redis_servers: RedisServers) -> AsyncIterator[TaskQueue]:
    queue = queue_on(redis_servers)
    yield queue
    await queue.flush()


def task(n: int) -> dict[str, Any]:
    return {"type": "test.task", "n": n}


async def taken(queue: TaskQueue, channel: str) -> Any:
    return (await asyncio.wait_for(queue.receive(channel), 20))["n"]


async def test_tasks_are_taken_in_the_order_they_were_sent(queue: TaskQueue) -> None:
    for n in range(10):
        await queue.send("thumbnails", task(n))
    assert [await taken(queue, "thumbnails") for _ in range(10)] == list(range(10))


async def test_a_worker_idles_longer_than_any_socket_timeout(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = asyncio.create_task(queue.receive("thumbnails"))
    # The stock stack dies after 5.0 s of silence; this is two of its blocking pops and more.
    await asyncio.sleep(11)
    assert not receiver.done()
    assert not caplog.records, "nor does it have to reconnect"
    await queue.send("thumbnails", task(1))
    assert await asyncio.wait_for(receiver, 10) == task(1)


async def test_five_hundred_may_send_at_once(queue: TaskQueue) -> None:
    await asyncio.gather(*(queue.send("thumbnails", task(n)) for n in range(500)))
    assert sorted([await taken(queue, "thumbnails") for _ in range(500)]) == list(range(500))


async def test_two_workers_never_take_one_task_twice(queue: TaskQueue, redis_servers: RedisServers) -> None:
    queues = [queue_on(redis_servers) for _ in range(2)]
    numbers: list[int] = []

    async def work(own: TaskQueue) -> None:
        while True:
            numbers.append((await own.receive("thumbnails"))["n"])

    workers = [asyncio.create_task(work(own)) for own in queues for _ in range(2)]
    await asyncio.gather(*(queue.send("thumbnails", task(n)) for n in range(500)))
    await asyncio.wait_for(_until(lambda: len(numbers) >= 500), 20)
    await queue.send("thumbnails", task(500))
    await asyncio.wait_for(_until(lambda: 500 in numbers), 20)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    for own in queues:
        await own.close_pools()
    assert sorted(numbers) == list(range(501))


async def test_a_full_queue_says_so(redis_servers: RedisServers) -> None:
    queue = queue_on(redis_servers, capacity=2)
    await queue.send("thumbnails", task(1))
    await queue.send("thumbnails", task(2))
    with pytest.raises(ChannelFull):
        await queue.send("thumbnails", task(3))
    await queue.flush()


async def test_a_task_over_the_limit_is_refused(redis_servers: RedisServers) -> None:
    queue = queue_on(redis_servers, message_limit_bytes=1_000)
    with pytest.raises(MessageTooLarge, match="expected 1000 or fewer"):
        await queue.send("thumbnails", {"type": "test.task", "text": "x" * 1_000})
    await queue.close_pools()


async def test_a_task_nobody_can_read_does_not_end_the_worker(
    queue: TaskQueue, redis_servers: RedisServers
) -> None:
    stranger = queue_on(redis_servers, symmetric_encryption_keys=["another"])
    before = REGISTRY.get_sample_value("carillon_channel_drops_total", {"reason": "undecodable"}) or 0
    await stranger.send("thumbnails", task(1))
    await stranger.close_pools()
    await queue.send("thumbnails", task(2))
    assert await taken(queue, "thumbnails") == 2
    assert REGISTRY.get_sample_value("carillon_channel_drops_total", {"reason": "undecodable"}) == before + 1


async def test_whoever_is_not_a_node_can_send(queue: TaskQueue) -> None:
    def script() -> None:
        for n in range(3):
            async_to_sync(queue.send)("thumbnails", task(n))

    await asyncio.to_thread(script)
    assert [await taken(queue, "thumbnails") for _ in range(3)] == [0, 1, 2]


async def test_one_redis_without_sentinels_will_do(redis_servers: RedisServers) -> None:
    host, port = redis_servers.primary_address()
    layers = channel_layers_for("fanout", None, REDIS_ADDRESS=f"{host}:{port}", REDIS_CONNECT_SECONDS="20")
    queue = TaskQueue(**layers["tasks"]["CONFIG"])
    await asyncio.gather(*(queue.send("thumbnails", task(n)) for n in range(200)))
    assert sorted([await taken(queue, "thumbnails") for _ in range(200)]) == list(range(200))
    await queue.flush()


def test_tls_and_passwords_reach_redis_and_its_sentinels(redis_servers: RedisServers) -> None:
    layers = channel_layers_for(
        "channels_redis",
        redis_servers,
        REDIS_TLS="true",
        REDIS_TLS_CA_FILE="/etc/ca.pem",
        REDIS_USERNAME="bell",
        REDIS_PASSWORD="one",
        REDIS_SENTINEL_USERNAME="watcher",
        REDIS_SENTINEL_PASSWORD="two",
    )
    for alias in ("default", "tasks"):
        host = layers[alias]["CONFIG"]["hosts"][0]
        pool = create_pool(host)
        connection = pool.make_connection()
        (first, *_) = pool.sentinel_manager.sentinels
        sentinel = first.connection_pool.make_connection()
        for one, username, password in ((connection, "bell", "one"), (sentinel, "watcher", "two")):
            assert isinstance(one, SSLConnection)
            assert (one.username, one.password, one.ca_certs) == (username, password, "/etc/ca.pem")
            assert one.socket_timeout and one.socket_connect_timeout


async def test_nobody_waits_for_ever_for_a_queue_that_is_not_there() -> None:
    queue = TaskQueue(
        hosts=[
            {
                "master_name": "carillon",
                "sentinels": [("127.0.0.1", 1)],
                "sentinel_kwargs": {"socket_connect_timeout": 1, "socket_timeout": 1},
                "socket_timeout": 8,
            }
        ]
    )
    with pytest.raises(BusUnavailable, match="the task queue cannot be reached"):
        await queue.send("thumbnails", task(1))
    await queue.close_pools()


@pytest.mark.parametrize("how", ["planned", "killed", "hung"])
async def test_a_worker_outlives_a_failover(
    disturbable_redis: RedisServers, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.realtime.task_queue")
    servers = disturbable_redis
    queue = queue_on(servers)
    numbers: list[int] = []

    async def work() -> None:
        while True:
            numbers.append((await queue.receive("thumbnails"))["n"])

    worker = asyncio.create_task(work())
    await queue.send("thumbnails", task(0))
    await asyncio.wait_for(_until(lambda: numbers == [0]), 10)

    if how == "planned":
        await asyncio.to_thread(servers.failover)
    else:
        previous = await asyncio.to_thread(servers.primary_address)
        await asyncio.to_thread(servers.kill if how == "killed" else servers.pause, "primary")
        await asyncio.to_thread(servers.wait_until_promoted, previous)

    # A send may fail while roles change, and says so; whoever sends decides whether to send again.
    sent = [0]
    for n in range(1, 100):
        try:
            await queue.send("thumbnails", task(n))
        except BusUnavailable:
            await asyncio.sleep(0.2)
            continue
        sent.append(n)
        if len(sent) > 3:
            break
    await asyncio.wait_for(_until(lambda: set(sent[-3:]) <= set(numbers)), 30)
    assert not worker.done()
    assert len(set(numbers)) == len(numbers)
    assert len([record for record in caplog.records if "is away" in record.message]) <= 2
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    await queue.close_pools()


async def _until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0.02)
