"""A run from start to end: Redis, the database, the nodes, requests meanwhile, and the end of them all."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Final

from deploy.local.control import Answer, ControlServer, Handler
from deploy.local.data_folder import held
from deploy.local.guardian import Guardian
from deploy.local.nodes import NODE_COMMAND, NodeError, Nodes
from deploy.local.overview import rows, wait_until_heard, what_to_try
from deploy.local.plan import PROJECT_FOLDER, Plan, check_ports, plan_from_environment
from deploy.local.processes import Process, StartFailed
from deploy.local.redis_configs import PRIMARY_NAME
from deploy.local.redis_servers import RedisServers, RedisServersError
from deploy.local.task_worker import NAME as WORKER
from deploy.local.task_worker import TaskWorker
from deploy.local.terminal import Terminal

LOOK_SECONDS: Final = 0.5
"""How soon the death of a child is noticed."""

RESTART_SECONDS: Final = 5.0
"""Longer than the Sentinels need to promote the replica: the dead one must come back as a replica."""

PREPARE_SECONDS: Final = 120.0
MANAGE: Final = (sys.executable, "-m", "app.manage")
ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPEATED_SECONDS: Final = 1.0
"""Signals closer together are one: make hands on what the terminal has already sent to everybody."""


class Ending(BaseException):
    """Somebody asked for the end, with the signal that is its argument."""


@dataclass(frozen=True)
class Commands:
    """What is started beside Redis: what `prepare` says, side by side; then nodes and worker."""

    prepare: Sequence[Sequence[str]] = (
        (*MANAGE, "migrate", "--no-input", "--verbosity", "0"),
        (*MANAGE, "collectstatic", "--no-input", "--verbosity", "0"),
    )
    node: Sequence[str] = NODE_COMMAND
    worker: Sequence[str] = (*MANAGE, "run_worker")


class Supervisor:
    """One run. `run` returns when somebody asked for the end; whatever happens, no child outlives it."""

    def __init__(self, plan: Plan, terminal: Terminal, commands: Commands) -> None:
        self._plan = plan
        self._terminal = terminal
        self._commands = commands
        self._guardian = Guardian()
        self._redis = RedisServers(plan.data_folder / "redis", guardian=self._guardian, on_line=terminal.line)
        self._nodes = Nodes(
            plan,
            self._guardian,
            sentinels=self._redis.sentinel_addresses,
            primary_name=PRIMARY_NAME,
            command=commands.node,
            on_line=terminal.line,
        )
        self._worker = TaskWorker(plan, self._guardian, commands.worker, terminal.line)
        self._restart_at: dict[str, float] = {}

    def run(self) -> None:
        """Start everything and serve requests. Raises `StartFailed` when something does not come up."""
        with ExitStack() as stack:
            # From the bottom up, and each one although the one before was cut short.
            stack.callback(self._guardian.close)
            stack.callback(self._redis.stop)
            stack.callback(self._worker.stop)
            stack.callback(self._nodes.stop)
            control = stack.enter_context(ControlServer(self._plan.control_socket, self._handlers()))
            try:
                self._start()
                while self._guardian.alive:
                    control.serve_one(LOOK_SECONDS)
                    self._look_after_children()
                raise StartFailed(
                    "the guardian process was killed: nothing would end the others, so this run ends"
                )
            except Ending as ending:
                self._terminal.mute(self._redis.processes())
                self._terminal.say(f"{ending}: first the nodes end, then Redis (once more: all at once)")

    # --- Start -------------------------------------------------------------------------------------------

    def _start(self) -> None:
        everyone = range(1, self._plan.nodes + 1)
        with self._terminal.step("Redis: a primary, a replica and three Sentinels"):
            self._redis.start()
        with self._terminal.step("database and static files"):
            self._prepare()
        with self._terminal.step(f"{self._plan.nodes} nodes and a task worker"):
            for number in everyone:
                self._nodes.start(number)
            self._worker.start(self._nodes.environment())
            self._nodes.wait_until_ready(everyone)
            self._worker.wait_until_ready()
            wait_until_heard(self._plan)
        self._terminal.table(self._rows())
        self._terminal.text(what_to_try(self._plan))
        self._terminal.release(without=self._redis.processes())

    def _prepare(self) -> None:
        """All at once: most of what each takes is Django's start."""
        environment = {**os.environ, "DATA_FOLDER": str(self._plan.data_folder)}
        with ExitStack() as stack:
            processes = []
            for command in self._commands.prepare:
                process = Process(
                    "prepare", command, self._guardian, environment=environment, cwd=PROJECT_FOLDER
                )
                stack.callback(process.kill)
                processes.append((command, process))
            for command, process in processes:
                code = process.wait(PREPARE_SECONDS)
                if code != 0:
                    how = f"ended with code {code}" if code else f"did not end within {PREPARE_SECONDS:g} s"
                    raise StartFailed(f"`{' '.join(command[1:])}` {how}:\n{process.tail()}")

    # --- Meanwhile ---------------------------------------------------------------------------------------

    def _look_after_children(self) -> None:
        for number, code in self._nodes.ended():
            self._terminal.say(
                f"node-{number} ended by itself ({_how(code)}) and stays down: `make start-node N={number}`"
            )
        pids = {name: pid for name, (_, pid) in self._redis.processes().items()}
        if self._worker.wanted:
            pids[WORKER] = self._worker.pid
        for name, pid in pids.items():
            if pid is None and name not in self._restart_at:
                self._restart_at[name] = monotonic() + RESTART_SECONDS
                self._terminal.say(f"{name} is dead: it comes back in {RESTART_SECONDS:g} s")
            elif name in self._restart_at and monotonic() > self._restart_at[name]:
                self._restart(name)

    def _restart(self, name: str) -> None:
        try:
            if name == WORKER:
                self._worker.start(self._nodes.environment())
            else:
                self._redis.restart(name)
        except StartFailed as error:
            self._restart_at[name] = monotonic() + RESTART_SECONDS
            self._terminal.say(str(error))
        else:
            del self._restart_at[name]
            self._terminal.say(f"{name} runs again")

    def _rows(self) -> list[list[str]]:
        return rows(self._plan, self._nodes, self._worker, self._redis)

    def _handlers(self) -> dict[str, Handler]:
        return {
            "kill-node": lambda argument: self._tell(lambda: self._kill_node(_node_number(argument))),
            "drain-node": lambda argument: self._tell(lambda: self._drain_node(_node_number(argument))),
            "start-node": lambda argument: self._tell(lambda: self._start_node(_node_number(argument))),
            "failover": lambda _: self._tell(self._failover),
            "status": lambda _: Answer(True, self._plan.url(self._plan.port), self._rows()),
        }

    def _tell(self, act: Callable[[], str]) -> Answer:
        """What came of it, here as well as to whoever asked."""
        try:
            answer = Answer(True, act())
        except (NodeError, RedisServersError, StartFailed) as error:
            answer = Answer(False, str(error))
        self._terminal.say(answer.text)
        return answer

    def _kill_node(self, number: int) -> str:
        pid = self._nodes.kill(number)
        return (
            f"node-{number} (pid {pid}) got SIGKILL and is gone; bring it back: `make start-node N={number}`"
        )

    def _drain_node(self, number: int) -> str:
        started = monotonic()
        self._nodes.drain(number)
        return (
            f"node-{number} let its people go and ended, {monotonic() - started:.1f} s after it was asked; "
            f"bring it back: `make start-node N={number}`"
        )

    def _start_node(self, number: int) -> str:
        process = self._nodes.start(number)
        self._nodes.wait_until_ready([number])
        return f"node-{number} is ready (pid {process.pid}): {self._plan.url(self._plan.node_port(number))}"

    def _failover(self) -> str:
        before = self._redis.primary_address()
        started = monotonic()
        after = self._redis.failover()
        return (
            f"{self._redis.name_of(after)} took over from {self._redis.name_of(before)} "
            f"as primary, {monotonic() - started:.1f} s after it was asked"
        )


def _node_number(argument: str) -> int:
    if not argument.isdecimal():
        raise NodeError(f"which node? Say it like N=2 (got {argument!r})")
    return int(argument)


def _raise_ending_on_signals() -> None:
    """Each signal raises `Ending` in the main thread: the first begins the end, a later one cuts it short."""
    last = -REPEATED_SECONDS

    def end(number: int, _: FrameType | None) -> None:
        nonlocal last
        if monotonic() - last >= REPEATED_SECONDS:
            last = monotonic()
            raise Ending(signal.Signals(number).name)

    for number in ENDING_SIGNALS:
        signal.signal(number, end)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


def run(commands: Commands | None = None) -> None:
    """Run as the environment says until somebody asks for the end. Raises `PlanError`, `StartFailed`."""
    _raise_ending_on_signals()
    try:
        plan = plan_from_environment()
        with held(plan.data_folder):
            check_ports(plan)
            Supervisor(plan, Terminal(), commands or Commands()).run()
    except Ending:
        return
    finally:
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # all is done: the exit code shall say so
