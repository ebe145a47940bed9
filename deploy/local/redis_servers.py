"""A real Redis primary, a replica and three Sentinels on 127.0.0.1, to run and to break. Keeps no data."""

import signal as signals
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import OnLine, Process, StartFailed, stop_all, wait_until
from deploy.local.redis_binary import redis_server
from deploy.local.redis_configs import CONFIG_FILE, PRIMARY_NAME, redis_lines, sentinel_lines, write_config

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 1.0

TROUBLE: Final = frozenset(("s_down", "o_down", "disconnected", "failover_in_progress"))
"""What Sentinel must not say of anybody when a failover is to work."""

Address = tuple[str, int]


class RedisServersError(Exception):
    """What was asked cannot be done now; the text says why."""


@dataclass
class _Server:
    name: str
    port: int
    process: Process | None = None


class RedisServers:
    """`redis-1` starts as primary, `redis-2` as its replica; `sentinel-1` to `sentinel-3` watch.

    Where a method takes `which`, that is a name, a port, or the role of the moment: "primary", "replica".
    All methods block; from a coroutine call them with `asyncio.to_thread`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        redis_ports: tuple[int, int] | None = None,
        sentinel_ports: tuple[int, int, int] | None = None,
        down_after_milliseconds: int = 1000,
        failover_timeout_milliseconds: int = 3000,
        guardian: Guardian | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        ports = free_ports(5)
        self.folder = folder
        self._redis = [_Server(f"redis-{n}", p) for n, p in enumerate(redis_ports or ports[:2], 1)]
        self._sentinels = [_Server(f"sentinel-{n}", p) for n, p in enumerate(sentinel_ports or ports[2:], 1)]
        self._down_after = down_after_milliseconds
        self._failover_timeout = failover_timeout_milliseconds
        self._guardian = guardian
        self._own_guardian: Guardian | None = None
        self._on_line = on_line
        self._binary = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- Start and stop ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all five and wait until they know each other. Raises `StartFailed`; then nothing is left."""
        self._binary = redis_server()
        if self._guardian is None:
            self._guardian = self._own_guardian = Guardian()
        try:
            self._write_configs()
            for servers in (self._redis, self._sentinels):
                for server in servers:
                    self._spawn(server)
                for server in servers:
                    self._wait_for_answer(server)
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all of them, the Sentinels first, so that no one calls for a failover on the way out."""
        for servers in (self._sentinels, self._redis):
            stop_all([server.process for server in servers if server.process is not None], STOP_SECONDS)
            for server in servers:
                server.process = None
        if self._own_guardian is not None:
            self._own_guardian.close()
            self._guardian = self._own_guardian = None

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until a failover could be done at any moment. Raises `StartFailed`."""
        if missing := self._missing_after(seconds):
            raise StartFailed(f"Redis is not ready after {seconds:g} s: {missing}\n{self._tails()}")

    # --- Who is what -------------------------------------------------------------------------------------

    @property
    def sentinel_addresses(self) -> list[Address]:
        """Of all three, running or not."""
        return [(HOST, server.port) for server in self._sentinels]

    @property
    def redis_addresses(self) -> list[Address]:
        """Of primary and replica, whichever is which."""
        return [(HOST, server.port) for server in self._redis]

    def primary_address(self) -> Address:
        """The primary as most Sentinels see it: for a while after its death still the dead one."""
        seen = [address for server in self._sentinels if (address := self._primary_seen_by(server))]
        if not seen:
            raise RedisServersError("no Sentinel answers")
        return max(seen, key=seen.count)

    def replica_address(self) -> Address:
        """The other one."""
        primary = self.primary_address()
        return next(address for address in self.redis_addresses if address != primary)

    def name_of(self, address: Address) -> str:
        """For example `redis-2`."""
        return self._find(address[1]).name

    def processes(self) -> dict[str, tuple[int, int | None]]:
        """Name to (port, pid); the pid is None for one that does not run."""
        return {
            server.name: (server.port, process.pid if (process := server.process) and process.alive else None)
            for server in self._all()
        }

    # --- Break and mend ----------------------------------------------------------------------------------

    def kill(self, which: str | int, number: int = signals.SIGKILL) -> Address:
        """End one with a signal, and wait until it is gone. Returns its address."""
        server, process = self._running(which)
        process.signal(number)
        process.bury()
        server.process = None
        return HOST, server.port

    def pause(self, which: str | int) -> Address:
        """Let one hang: the kernel still answers for it, it does not."""
        server, process = self._running(which)
        process.signal(signals.SIGSTOP)
        return HOST, server.port

    def resume(self, which: str | int) -> Address:
        """Let it go on. Name it by port or name: roles may have changed since it was paused."""
        server, process = self._running(which)
        process.signal(signals.SIGCONT)
        return HOST, server.port

    def restart(self, which: str | int) -> Address:
        """Start one again on its port, with the configuration as it and the Sentinels left it."""
        server = self._find(which)
        if server.process is not None:
            server.process.stop(STOP_SECONDS)
        self._spawn(server)
        self._wait_for_answer(server)
        return HOST, server.port

    def failover(self, seconds: float = 30.0) -> Address:
        """A planned failover: primary and replica change places. Returns the new primary's address.

        Right after another one this waits: Sentinel takes some 10 s to make a replica of the old primary.
        """
        if missing := self._missing_after(seconds):
            raise RedisServersError(f"no failover now: {missing}")
        previous = self.primary_address()
        try:
            self.ask(self._sentinels[0].port, "SENTINEL", "FAILOVER", PRIMARY_NAME)
        except redis.RedisError as error:
            raise RedisServersError(f"no failover now: {error}") from error
        return self.wait_until_promoted(previous, seconds)

    def wait_until_promoted(self, previous: Address, seconds: float = 30.0) -> Address:
        """Wait until all Sentinels that answer name one other than `previous`, and it agrees. Returns it."""
        if not wait_until(lambda: self._promoted(previous), seconds):
            raise RedisServersError(f"nobody took over from {previous[1]} within {seconds:g} s")
        return self.primary_address()

    def ask(self, port: int, *words: str | bytes) -> object:
        """One command to one server, as an operator would type it. Raises `redis.RedisError`."""
        with redis.Redis(
            host=HOST,
            port=port,
            protocol=2,
            decode_responses=True,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return client.execute_command(*words)

    # --- Inside ------------------------------------------------------------------------------------------

    def _write_configs(self) -> None:
        primary, replica = self._redis
        write_config(self.folder / primary.name, redis_lines(primary.port, replica_of=None))
        write_config(self.folder / replica.name, redis_lines(replica.port, replica_of=primary.port))
        for sentinel in self._sentinels:
            lines = sentinel_lines(
                sentinel.port,
                peers=[peer.port for peer in self._sentinels if peer is not sentinel],
                primary=primary.port,
                replica=replica.port,
                down_after_milliseconds=self._down_after,
                failover_timeout_milliseconds=self._failover_timeout,
            )
            write_config(self.folder / sentinel.name, lines)

    def _all(self) -> list[_Server]:
        return [*self._redis, *self._sentinels]

    def _find(self, which: str | int) -> _Server:
        if which in ("primary", "replica"):
            which = (self.primary_address() if which == "primary" else self.replica_address())[1]
        for server in self._all():
            if which in (server.name, server.port):
                return server
        raise RedisServersError(f"no such server: {which!r}; expected a role, a name or a port")

    def _running(self, which: str | int) -> tuple[_Server, Process]:
        server = self._find(which)
        if server.process is None or not server.process.alive:
            raise RedisServersError(f"{server.name} on port {server.port} does not run")
        return server, server.process

    def _spawn(self, server: _Server) -> None:
        assert self._guardian is not None
        config = self.folder / server.name / CONFIG_FILE
        command = [self._binary, str(config), *(["--sentinel"] if server in self._sentinels else [])]
        server.process = Process(
            server.name, command, self._guardian, cwd=config.parent, on_line=self._on_line
        )

    def _wait_for_answer(self, server: _Server) -> None:
        process = server.process
        assert process is not None
        came = wait_until(lambda: not process.alive or self._answers(server), START_SECONDS)
        if not process.alive:
            code = process.exit_code
            raise StartFailed(f"{server.name} ended with code {code}, port {server.port}:\n{process.tail()}")
        if not came:
            raise StartFailed(f"{server.name} does not answer on port {server.port}:\n{process.tail()}")

    def _answers(self, server: _Server) -> bool:
        try:
            return self.ask(server.port, "PING") is True
        except redis.RedisError:  # not there yet, or still loading
            return False

    def _primary_seen_by(self, sentinel: _Server) -> Address | None:
        try:
            answer = self.ask(sentinel.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME)
        except redis.RedisError:
            return None
        return (str(answer[0]), int(answer[1])) if isinstance(answer, (list, tuple)) else None

    def _promoted(self, previous: Address) -> bool:
        seen = {address for server in self._sentinels if (address := self._primary_seen_by(server))}
        return len(seen) == 1 and previous not in seen and self._role(seen.pop()[1]) == "master"

    def _role(self, port: int) -> str:
        try:
            answer = self.ask(port, "ROLE")
        except redis.RedisError:
            return ""
        return str(answer[0]) if isinstance(answer, (list, tuple)) else ""

    def _missing_after(self, seconds: float) -> str | None:
        """What a failover still needs after `seconds`; None, and sooner, when it needs nothing."""
        missing: str | None = None

        def complete() -> bool:
            nonlocal missing
            missing = self._missing()
            return missing is None

        wait_until(complete, seconds)
        return missing

    def _missing(self) -> str | None:
        try:
            for server in self._sentinels:
                for kind, count in (("MASTERS", 1), ("REPLICAS", 1), ("SENTINELS", len(self._sentinels) - 1)):
                    seen = self._details(server, kind, *([] if kind == "MASTERS" else [PRIMARY_NAME]))
                    trouble = {flag for one in seen for flag in one["flags"].split(",")} & TROUBLE
                    if len(seen) != count or trouble:
                        words = " ".join(sorted(trouble))
                        return f"{server.name}'s {kind.lower()}: {len(seen)} of {count} {words}"
            # Asked of the replica itself: Sentinel looks only every 10 s.
            link = self.ask(self.replica_address()[1], "ROLE")
        except (redis.RedisError, RedisServersError) as error:
            return str(error)
        if not isinstance(link, list) or link[0] != "slave" or link[3] != "connected":
            return "the replica is not in step with its primary"
        return None

    def _details(self, sentinel: _Server, *words: str) -> list[dict[str, str]]:
        """Sentinel answers with one flat list of names and values for each instance."""
        answer = self.ask(sentinel.port, "SENTINEL", *words)
        assert isinstance(answer, list)
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in answer]

    def _tails(self) -> str:
        return "\n".join(f"{one.name}:\n{one.process.tail()}" for one in self._all() if one.process)
