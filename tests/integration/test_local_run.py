"""`make run`: everything comes up, can be broken while it runs, and ends. In each case nothing is left."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deploy.local.data_folder import LOCK_FILE
from deploy.local.overview import wait_until_heard
from deploy.local.plan import PROJECT_FOLDER, Plan
from deploy.local.ports import HOST, free_ports, is_free
from deploy.local.processes import wait_until

NODES = 2
PATIENCE = 60.0
"""Seconds before a test gives up; a busy machine needs more than an idle one."""

WITH_STAND_IN = """
import sys
from deploy.local import commands
from deploy.local.supervisor import Commands, run
node = (sys.executable, "-m", "tests.integration.stand_in_node")
commands.run = lambda: run(Commands(prepare=(), node=node, worker=()))
sys.exit(commands.main(["run"]))
"""


def plan_in(folder: Path) -> Plan:
    """Ports that are all free, wherever they are."""
    while True:
        [port] = free_ports(1)
        plan = Plan(NODES, port, HOST, folder / "data")
        if all(is_free(used) for used, _ in plan.uses()):
            return plan


def environment_of(plan: Plan, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "NODES": str(plan.nodes),
        "PORT": str(plan.port),
        "DATA_FOLDER": str(plan.data_folder),
        **more,
    }


def command(arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """What `make <command>` runs."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *arguments],
        cwd=PROJECT_FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Starter:
    """A starter, usually with stand-ins for nodes, and its output."""

    def __init__(self, folder: Path, code: str = WITH_STAND_IN, **more: str) -> None:
        self.plan = plan_in(folder)
        self.code = code
        self.more = more
        self._log = folder / "output.txt"
        self.start()

    def start(self) -> None:
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.code],
                cwd=PROJECT_FOLDER,
                env=environment_of(self.plan, **self.more),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        assert wait_until(lambda: text in self.output() or self.process.poll() is not None, PATIENCE)
        assert text in self.output(), self.output()

    def wait_until_up(self) -> None:
        self.wait_for("Ctrl-C ends everything")

    def ask(self, *arguments: str) -> str:
        done = command(arguments, environment_of(self.plan))
        return done.stdout + done.stderr

    def status(self) -> dict[str, tuple[int, int]]:
        """Name to (port, pid) of what runs."""
        rows = [line.split() for line in self.ask("status").splitlines()[2:]]
        return {
            row[0]: (int(row[1].strip("/").split(":")[-1]), int(row[2])) for row in rows if row[2] != "dead"
        }

    def who_answers(self, port: int) -> str:
        connection = HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def end(self) -> None:
        """For fixtures: whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Starter]]:
    """Makes starters that are surely gone after the test."""
    with ExitStack() as stack:

        def make(*code: str, **more: str) -> Starter:
            made = Starter(tmp_path, *code, **more)
            stack.callback(made.end)
            return made

        yield make


@pytest.fixture
def starter(start: Callable[..., Starter]) -> Starter:
    """One of this test's own, to end as it likes."""
    return start()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """One for all tests that leave it running, with all its nodes."""
    made = Starter(tmp_path_factory.mktemp("run"))
    made.wait_until_up()
    yield made
    made.end()


def all_free(ports: Sequence[int]) -> bool:
    return all(is_free(port) for port in ports)


def ports_of(starter: Starter) -> list[int]:
    return [*(port for port, _ in starter.plan.uses()), *(port for port, _ in starter.status().values())]


def test_the_application_itself_serves_its_page_from_every_node(start: Callable[..., Starter]) -> None:
    starter = start("import sys; from deploy.local.commands import main; sys.exit(main(['run']))")
    starter.wait_until_up()
    for number in range(NODES + 1):
        assert "<title>" in starter.who_answers(starter.plan.port + number)
    starter.ask("kill-node", "1")
    assert "<title>" in starter.who_answers(starter.plan.port)
    assert "node-1 is ready" in starter.ask("start-node", "1")
    port, pid = starter.status()["worker"]
    assert port == starter.plan.worker_port
    os.kill(pid, signal.SIGKILL)
    starter.wait_for("worker is dead")
    starter.wait_for("worker runs again")
    assert starter.status()["worker"][1] != pid
    starter.end()
    assert starter.process.returncode == 0
    assert all_free([port for port, _ in starter.plan.uses()])


# --- While it runs -----------------------------------------------------------------------------------


def test_every_node_answers_on_its_own_port_and_any_node_on_the_public_one(running: Starter) -> None:
    for number in range(1, NODES + 1):
        assert running.who_answers(running.plan.node_port(number)) == f"node-{number}"
    assert running.who_answers(running.plan.port) in {"node-1", "node-2"}


def test_the_table_tells_every_part_with_its_address(running: Starter) -> None:
    shown = running.output()
    for name, (port, pid) in running.status().items():
        assert name in shown and f"127.0.0.1:{port}" in shown and str(pid) in shown


def test_a_killed_node_is_gone_with_its_worker_and_can_be_started_again(running: Starter) -> None:
    port = running.plan.node_port(2)
    assert "node-2 (pid " in running.ask("kill-node", "2")
    assert is_free(port) and is_free(running.plan.internal_port(2))
    assert running.who_answers(running.plan.port) == "node-1"
    assert "node-2" not in running.status()
    assert "node-2 does not run" in running.ask("kill-node", "2")
    assert "node-2 is ready (pid " in running.ask("start-node", "2")
    assert running.who_answers(port) == "node-2"
    assert "node-2 runs already" in running.ask("start-node", "2")


def test_a_node_that_dies_by_itself_is_said_and_takes_its_worker_along(running: Starter) -> None:
    port, pid = running.status()["node-1"]
    os.kill(pid, signal.SIGKILL)
    running.wait_for("node-1 ended by itself (signal 9) and stays down: `make start-node N=1`")
    assert wait_until(lambda: is_free(port), PATIENCE)
    assert "node-1 is ready" in running.ask("start-node", "1")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("kill-node", "7"), "there is no node-7: expected N from 1 to 2"),
        (("start-node", "two"), "which node? Say it like N=2 (got 'two')"),
        (("kill-node",), "which node? Say it like N=2 (got '')"),
    ],
)
def test_a_node_that_cannot_be_is_refused_in_one_line(
    running: Starter, arguments: tuple[str, ...], line: str
) -> None:
    assert running.ask(*arguments) == f"carillon: {line}\n"


def test_a_failover_is_told_to_both_terminals(running: Starter) -> None:
    told = running.ask("failover").strip()
    assert re.match(r"redis-[12] took over from redis-[12] as primary", told)
    running.wait_for(told)


def test_a_dead_redis_comes_back_by_itself(running: Starter) -> None:
    port, pid = running.status()["redis-1"]
    os.kill(pid, signal.SIGKILL)
    running.wait_for("redis-1 runs again")
    assert running.status()["redis-1"][0] == port


def test_a_second_run_and_clean_data_are_refused_while_one_runs(running: Starter) -> None:
    for asked in ("run", "clean-data"):
        done = command([asked], environment_of(running.plan))
        assert done.returncode == 2
        folder, pid = running.plan.data_folder, running.process.pid
        assert f"already running with its data in {folder} (pid {pid})" in done.stderr


def test_a_client_that_says_nothing_or_nonsense_does_not_stop_the_starter(running: Starter) -> None:
    for data in (b"", b"\xff\xfe nonsense"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(running.plan.control_socket))
            client.sendall(data)
    assert len(running.status()) == NODES + 5


# --- The end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_polite_end_takes_nodes_first_then_redis_and_leaves_nothing(starter: Starter, number: int) -> None:
    starter.wait_until_up()
    ports = ports_of(starter)
    starter.process.send_signal(number)
    assert starter.process.wait(PATIENCE) == 0
    assert all_free(ports)
    assert starter.output().count("left politely, before Redis") == NODES
    assert not starter.plan.control_socket.exists()


def test_a_killed_starter_takes_every_child_along_and_does_not_stop_the_next(starter: Starter) -> None:
    starter.wait_until_up()
    ports = ports_of(starter)
    ports.remove(starter.plan.worker_port)  # stand-ins have no worker
    assert not any(is_free(port) for port in ports)
    starter.process.kill()
    starter.process.wait()
    assert wait_until(lambda: all_free(ports), PATIENCE)
    assert starter.plan.control_socket.exists()
    starter.start()
    starter.wait_until_up()


def test_a_node_that_does_not_end_is_killed_when_the_end_is_asked_for_again(
    start: Callable[..., Starter],
) -> None:
    starter = start(STAND_IN="stubborn")
    starter.wait_until_up()
    ports = ports_of(starter)

    def ended() -> bool:
        starter.process.send_signal(signal.SIGINT)
        return starter.process.poll() is not None

    assert wait_until(ended, PATIENCE)
    assert starter.process.returncode == 0
    assert wait_until(lambda: all_free(ports), PATIENCE)
    assert "left politely" not in starter.output()


def test_a_run_whose_log_nobody_reads_any_more_ends(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", WITH_STAND_IN],
        cwd=PROJECT_FOLDER,
        env=environment_of(plan),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C ends everything" in line:
                break
        process.stdout.close()
        command(["kill-node", "1"], environment_of(plan))  # something to say
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
    assert all_free([port for port, _ in plan.uses()])


def test_a_node_that_does_not_come_up_ends_the_run_with_its_own_words(start: Callable[..., Starter]) -> None:
    starter = start(STAND_IN="broken")
    assert starter.process.wait(PATIENCE) == 1
    assert "carillon: node-1 ended with code 1 before it was ready:" in starter.output()
    assert "the stand-in was told to be broken" in starter.output()
    assert all_free([port for port, _ in starter.plan.uses()])


def test_a_migration_that_fails_ends_the_run_with_its_own_words(start: Callable[..., Starter]) -> None:
    failing = "((sys.executable, '-c', 'import sys; sys.exit(\"no such column\")'),)"
    starter = start(WITH_STAND_IN.replace("prepare=()", f"prepare={failing}"))
    assert starter.process.wait(PATIENCE) == 1
    assert "carillon: `-c import sys" in starter.output() and "  no such column" in starter.output()
    assert "Ctrl-C" not in starter.output()


# --- Before it starts --------------------------------------------------------------------------------


def test_a_taken_port_is_named_with_a_way_out(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    with socket.socket() as taken:
        taken.bind((HOST, plan.node_port(2)))
        taken.listen(1)
        done = command(["run"], environment_of(plan))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"carillon: port {plan.node_port(2)} (node-2) is taken: choose other ports, for")
    assert line.endswith(" make run") and "PORT=" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("NODES", "0"), ("NODES", "33"), ("NODES", "many"), ("PORT", "0"), ("PORT", "65001"), ("PORT", "http")],
)
def test_a_wrong_number_is_refused_by_its_name(tmp_path: Path, name: str, value: str) -> None:
    done = command(["run"], {**environment_of(plan_in(tmp_path)), name: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f'carillon: Environment variable "{name}" invalid: ')
    assert len(done.stderr.splitlines()) == 1


def test_an_address_of_another_machine_is_refused_by_its_name(tmp_path: Path) -> None:
    done = command(["run"], environment_of(plan_in(tmp_path), PUBLIC_HOST="192.0.2.1"))
    assert done.returncode == 2
    assert "cannot be had on PUBLIC_HOST=192.0.2.1" in done.stderr


def test_a_data_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    plan.data_folder.write_text("a file")
    done = command(["run"], environment_of(plan))
    assert done.returncode == 2
    assert done.stderr.startswith(f"carillon: cannot write to {plan.data_folder} (")
    assert done.stderr.endswith("choose another with DATA_FOLDER=\n")


def test_without_a_run_commands_say_how_to_start_one(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    for asked in (["status"], ["failover"], ["kill-node", "1"]):
        done = command(asked, environment_of(plan))
        assert done.returncode == 1
        expected = f"carillon: nothing runs with its data in {plan.data_folder}: start it with `make run`\n"
        assert done.stderr == expected


def test_clean_data_forgets_what_runs_left_and_nothing_else(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    (plan.data_folder / "redis" / "redis-1").mkdir(parents=True)
    for name in ("carillon.sqlite3", "carillon.sqlite3-wal", "control.sock", LOCK_FILE, "letter.txt"):
        (plan.data_folder / name).write_text("")
    done = command(["clean-data"], environment_of(plan))
    assert done.stdout == f"forgot carillon.sqlite3, carillon.sqlite3-wal, redis in {plan.data_folder}\n"
    assert [path.name for path in plan.data_folder.iterdir()] == ["letter.txt"]
    (plan.data_folder / "letter.txt").unlink()
    command(["clean-data"], environment_of(plan))
    assert not plan.data_folder.exists()


def test_an_old_python_is_told_which_one_is_needed() -> None:
    code = (
        "import runpy, sys; sys.version_info = (3, 10, 12, 'final', 0)\n"
        "runpy.run_module('deploy.local', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_FOLDER, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "carillon: needs Python 3.11 or newer, this is 3.10\n")


def test_the_first_table_waits_until_the_nodes_hear_each_other(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    asked: list[str] = []

    class Node(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            heard = min(len(asked), plan.nodes)
            known = [{"hears": ["one"] * heard}] + [{}] * (heard - 1)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"nodes": known}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, plan.internal_port(1)), Node) as node:
        Thread(target=node.serve_forever, daemon=True).start()
        wait_until_heard(plan)  # the others say nothing, and are not waited for
        node.shutdown()
    assert asked == ["/peers"] * plan.nodes
