"""The Redis servers that everything else is tried on must themselves be what they say."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from deploy.local.ports import HOST, free_ports, is_free
from deploy.local.processes import StartFailed, wait_until
from deploy.local.redis_binary import redis_server, version_of
from deploy.local.redis_servers import RedisServers, RedisServersError


def test_all_three_sentinels_name_the_same_primary_and_it_accepts_writes(redis_servers: RedisServers) -> None:
    host, port = redis_servers.primary_address()
    for _, sentinel in redis_servers.sentinel_addresses:
        assert redis_servers.ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "carillon") == [
            host,
            str(port),
        ]
        answer = redis_servers.ask(sentinel, "SENTINEL", "CKQUORUM", "carillon")
        assert str(answer).startswith("OK 3 usable Sentinels")
    assert redis_servers.ask(port, "SET", "who", "primary") in (True, "OK")


def test_what_the_primary_is_told_the_replica_knows(redis_servers: RedisServers) -> None:
    redis_servers.ask(redis_servers.primary_address()[1], "SET", "replicated", "yes")
    replica = redis_servers.replica_address()[1]
    assert wait_until(lambda: redis_servers.ask(replica, "GET", "replicated") == "yes", 10)
    with pytest.raises(redis.ResponseError, match="replica"):
        redis_servers.ask(replica, "SET", "replicated", "no")


def test_the_buffer_for_subscribers_holds_more_than_redis_would_give(redis_servers: RedisServers) -> None:
    answer = redis_servers.ask(
        redis_servers.primary_address()[1], "CONFIG", "GET", "client-output-buffer-limit"
    )
    assert f"pubsub {64 * 2**20} {16 * 2**20} 60" in str(answer)


def test_a_killed_primary_is_replaced_and_comes_back_as_replica(disturbable_redis: RedisServers) -> None:
    killed = disturbable_redis.kill("primary")
    promoted = disturbable_redis.wait_until_promoted(killed)
    assert promoted in disturbable_redis.redis_addresses and promoted != killed
    disturbable_redis.restart(killed[1])
    disturbable_redis.wait_until_ready()
    assert disturbable_redis.replica_address() == killed


def test_a_hanging_primary_is_replaced(disturbable_redis: RedisServers) -> None:
    hanging = disturbable_redis.pause("primary")
    assert disturbable_redis.wait_until_promoted(hanging) != hanging
    disturbable_redis.resume(hanging[1])
    disturbable_redis.wait_until_ready()
    assert disturbable_redis.replica_address() == hanging


def test_a_planned_failover_swaps_the_roles(disturbable_redis: RedisServers) -> None:
    before = disturbable_redis.primary_address()
    after = disturbable_redis.failover()
    assert after == disturbable_redis.primary_address() != before


def test_two_dead_sentinels_of_three_promote_nobody(disturbable_redis: RedisServers) -> None:
    disturbable_redis.kill("sentinel-1")
    disturbable_redis.kill("sentinel-2", signal.SIGTERM)
    killed = disturbable_redis.kill("primary")
    with pytest.raises(RedisServersError, match="nobody took over"):
        disturbable_redis.wait_until_promoted(killed, seconds=4)


def test_a_failover_without_a_replica_says_what_is_missing(disturbable_redis: RedisServers) -> None:
    disturbable_redis.kill("replica")
    with pytest.raises(RedisServersError, match="no failover now: "):
        disturbable_redis.failover(seconds=0.2)


def test_an_unknown_server_is_named(redis_servers: RedisServers) -> None:
    with pytest.raises(
        RedisServersError, match="no such server: 'redis-7'; expected a role, a name or a port"
    ):
        redis_servers.kill("redis-7")


def test_processes_beside_each_other_are_given_different_ports() -> None:
    code = "from deploy.local.ports import free_ports; print(*free_ports(100), flush=True); input()"
    given = free_ports(100)
    with ExitStack() as stack:
        for _ in range(4):
            command = [sys.executable, "-c", code]
            other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(other)
            stack.callback(other.kill)
            assert other.stdout is not None
            given += map(int, other.stdout.readline().split())
    assert len(given) == len(set(given)) == 500


def test_a_taken_port_ends_the_start_with_the_servers_own_words_and_leaves_nothing(tmp_path: Path) -> None:
    first, second = free_ports(2)
    with socket.socket() as taken:
        taken.bind((HOST, first))
        taken.listen(1)
        with pytest.raises(StartFailed, match=rf"(?s)redis-1 ended with code 1, port {first}:.*in use"):
            RedisServers(tmp_path, redis_ports=(first, second)).start()
    assert is_free(second)


def test_a_new_start_in_the_same_folder_forgets_what_happened_before(tmp_path: Path) -> None:
    for _ in range(2):
        with RedisServers(tmp_path) as servers:
            assert servers.primary_address() == servers.redis_addresses[0]
            servers.wait_until_promoted(servers.kill("primary"))
        assert all(is_free(port) for port, _ in servers.processes().values())


def test_servers_end_when_whoever_started_them_is_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from deploy.local.redis_servers import RedisServers\n"
        "servers = RedisServers(pathlib.Path(sys.argv[1])); servers.start()\n"
        "print(*(port for port, _ in servers.processes().values()), flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        ports = [int(port) for port in owner.stdout.readline().split()]
        assert len(ports) == 5 and not any(is_free(port) for port in ports)
        os.kill(owner.pid, signal.SIGKILL)
    assert wait_until(lambda: all(is_free(port) for port in ports), 20)


def test_the_server_is_recent_enough_for_what_the_configuration_says() -> None:
    assert version_of(redis_server()) >= (6, 2)
    assert version_of("/bin/true") == () == version_of("/nowhere/redis-server")
