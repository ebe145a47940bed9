"""One run from start to verdict, in one process or many: who may begin, when it ends, whose accounts came.

Everybody joins first; then the steady state begins: counters of the nodes are read, senders speak. At the end
they fall silent, and what has not come `--late` seconds after that is lost. It all hangs on Locust's events.
"""

import logging
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import gevent
import locust.log
from gevent.event import Event
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest import node_metrics
from loadtest.proof.account import Account, Book, Data
from loadtest.proof.judge import Finding, judge
from loadtest.proof.measures import measure
from loadtest.proof.verdict import NO_DATA, THRESHOLDS, Measured, Rule, Verdict, rules_of, verdict
from loadtest.report import show
from loadtest.visitor import Door, Refused
from loadtest.web_page import extend

logger = logging.getLogger(__name__)

ACCOUNT_SECONDS: Final = 10.0
"""How long a worker may take to tell its last."""
NEWS_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 5.0
"""Before a disturbance, and at least behind it."""
DISTURB_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 0.2

LOSE: Final = "lose"
"""The disturbance that the users are themselves: all of them lose their connections."""

Prepare = Callable[[Door], None]

DELIVERY: Final = "WSR"
"""Request type of what was received, in Locust's statistics."""
REMOTE: Final = {"message": "message from another node", "marker": "marker from another node"}
LOCAL: Final = {"message": "message from the same node", "marker": "marker from the same node"}


class Conductor:
    """Of one Locust process; the master's (or the only one's) also leads and judges."""

    def __init__(
        self, environment: Environment, scenario: str, prepare: Prepare | None, disturbance: str
    ) -> None:
        self.id = secrets.token_hex(3)
        """In the names of this process' people: drawn after Locust has forked."""
        self.begun = Event()
        """Everybody who is going to join has: from here on things may be said."""
        self.quiet = Event()
        """Nothing new is to be said."""
        self._environment = environment
        self._rules: list[Rule] = rules_of(scenario, Path(self.options.thresholds).read_text())
        self._prepare = prepare
        self._disturbance = disturbance
        self._leading: gevent.Greenlet | None = None
        self._clear()
        environment.events.test_start.add_listener(lambda **_: self._clear())
        runner = environment.runner
        assert runner is not None
        self._runner: Any = runner
        if not isinstance(runner, MasterRunner):
            runner.register_message("carillon.begin", lambda **_: self.begun.set())
            runner.register_message("carillon.quiet", lambda **_: self.quiet.set())
            runner.register_message("carillon.lose", lambda **_: [lose() for lose in self.lost])
            runner.register_message("carillon.tell", lambda **_: self._tell(last=True))
            environment.events.test_start.add_listener(lambda **_: gevent.spawn(self._tell_news))
            environment.events.user_error.add_listener(self._note_error)
        if not isinstance(runner, WorkerRunner):
            runner.register_message("carillon.account", self._take)
            environment.events.test_start.add_listener(lambda **_: self._start())
            environment.events.test_stopping.add_listener(lambda **_: self._finish())
            environment.events.quitting.add_listener(lambda **_: self._quit())
            environment.events.quit.add_listener(
                lambda **_: show(self.verdict, self.findings, self.impossible)
            )

    def _clear(self) -> None:
        """Nothing of an earlier test counts: on Locust's page there may be several."""
        self.account = Account()
        self.begun.clear()
        self.quiet.clear()
        self.verdict: Verdict | None = None
        self.findings: dict[str, Finding] = {}
        self.impossible = ""
        """Why it could not even begin."""
        self._books: dict[str, Book] = {}
        self._told: set[str] = set()
        self._workers: set[str] = set()
        self._before: node_metrics.Reading = {}
        self._disturbed: float | None = None
        self.begun_at = 0.0
        """When the steady state began; 0: not yet."""
        self.lost: list[Callable[[], None]] = []
        """What ends each connection of this process, as if its network were gone."""

    # --- Everywhere --------------------------------------------------------------------------------------

    @property
    def options(self) -> Any:
        return self._environment.parsed_options

    @property
    def door(self) -> Door:
        """Where the users come in."""
        url = (self._environment.host or "").rstrip("/")
        return Door(url, (self.options.origin or url).rstrip("/"))

    def raised(self, error: BaseException) -> None:
        """Something of ours broke, and the run cannot be trusted."""
        self.account.raised.append(f"{type(error).__name__}: {error}")

    def spawn(self, work: Callable[..., object], *arguments: Any) -> gevent.Greenlet:
        """A greenlet whose failure is a broken rule."""
        greenlet = gevent.spawn(work, *arguments)
        greenlet.link_exception(lambda ended: self.raised(ended.exception))
        return greenlet

    def delivered(self, kind: str, remote: bool, seconds: float, size: int) -> None:
        """A delivery that this very process had said itself: only so are two clocks one."""
        self._environment.events.request.fire(
            request_type=DELIVERY,
            name=(REMOTE if remote else LOCAL)[kind],
            response_time=seconds * 1000,
            response_length=size,
            exception=None,
            context={},
        )

    def _note_error(self, exception: BaseException, **_: Any) -> None:
        self.raised(exception)

    def _tell_news(self) -> None:
        while not self.quiet.is_set():
            self._tell(last=False)
            gevent.sleep(NEWS_SECONDS)

    def _tell(self, last: bool) -> None:
        if locust.log.unhandled_greenlet_exception and not self.account.raised:
            self.account.raised.append("a greenlet raised: the log says which")
        self._runner.send_message("carillon.account", {"last": last, "news": self.account.news()})

    # --- The one who leads -------------------------------------------------------------------------------

    @property
    def books(self) -> list[Book]:
        return list(self._books.values())

    def _start(self) -> None:
        try:
            if self._prepare is not None:
                self._prepare(self.door)
        except Refused as error:
            self.impossible = str(error)
            gevent.spawn(self._end)
        else:
            self._leading = self.spawn(self._lead)

    def _lead(self) -> None:
        deadline = time.monotonic() + self.options.join
        while time.monotonic() < deadline and self._joined() < self._target:
            gevent.sleep(LOOK_SECONDS)
        clients = self._runner.clients if isinstance(self._runner, MasterRunner) else {"local": None}
        self._workers = set(clients)
        self._before = self._read_metrics()
        self._runner.send_message("carillon.begin")
        logger.info("%d of %d have joined: the steady state begins", self._joined(), self._target)
        self.begun_at = time.monotonic()
        ends_at = time.monotonic() + self.options.steady
        if self._disturbance:
            gevent.sleep(SETTLE_SECONDS)
            self._disturb()
        if self._environment.shape_class is None:
            gevent.sleep(max(SETTLE_SECONDS, ends_at - time.monotonic()))
            self._end()

    def _disturb(self) -> None:
        """Have somebody break what this scenario is about, and wait until they say that it is done."""
        if self._disturbance == LOSE:
            self._runner.send_message("carillon.lose")
            self._disturbed = 0
            return
        command = [*shlex.split(self.options.disturb), self._disturbance]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=DISTURB_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._disturbed = 1
            logger.error("%s: %s", shlex.join(command), error)
        else:
            self._disturbed = done.returncode
            logger.info("%s: %s", shlex.join(command), (done.stdout + done.stderr).strip())

    def _end(self) -> None:
        if self.options.headless:
            self._runner.quit()
        else:
            self._runner.stop()

    def _joined(self) -> int:
        return sum(book.counts["joined"] for book in self._books.values())

    @property
    def _target(self) -> int:
        return int(self._runner.target_user_count or self.options.num_users or 1)

    def _take(self, msg: Any, **_: Any) -> None:
        data = cast(Data, msg.data)
        self._books.setdefault(msg.node_id, Book()).merge(data["news"], time.monotonic())
        if data["last"]:
            self._told.add(msg.node_id)

    def _finish(self) -> None:
        """While all users are still there: fall silent, wait, hear all accounts, judge."""
        if self.verdict is not None or self.impossible:
            return
        target = self._target
        if self._leading is not None and self._leading is not gevent.getcurrent():
            self._leading.kill(block=False)  # somebody ended it before its time
        self._runner.send_message("carillon.quiet")
        gevent.sleep(self.options.late)
        after = self._read_metrics()
        self._runner.send_message("carillon.tell")
        deadline = time.monotonic() + ACCOUNT_SECONDS
        while time.monotonic() < deadline and self._workers - self._told:
            gevent.sleep(LOOK_SECONDS)
        self.findings = judge(self.books)
        missing = len(self._workers - self._told)
        measured = measure(
            self.books,
            self.findings,
            target_users=target,
            expect_nodes=self.options.expect_nodes,
            accounts_missing=missing,
        )
        measured |= node_metrics.growth(self._before, after, self.options.expect_nodes)
        measured |= self._latencies() | {"disturbance_failed": self._disturbed}
        self.verdict = self._judged(measured)
        if self.options.headless:
            gevent.spawn(self._runner.quit)  # where Locust itself stopped it, nobody else would

    def _judged(self, measured: Measured) -> Verdict:
        expected = sum(finding.expected.total() for finding in self.findings.values())
        return verdict(self._rules, measured, expected)

    def _latencies(self) -> dict[str, float | None]:
        entry = self._environment.stats.entries.get((REMOTE["message"], DELIVERY))
        if entry is None or not entry.num_requests:
            return {}
        return {
            "remote_p95_ms": entry.get_response_time_percentile(0.95),
            "remote_p99_ms": entry.get_response_time_percentile(0.99),
        }

    def _read_metrics(self) -> node_metrics.Reading:
        return node_metrics.read(self.options.metrics.split(",") if self.options.metrics else ())

    def findings_so_far(self) -> dict[str, Finding]:
        """Of what was said long enough ago; at the end, of everything."""
        if self.verdict is not None:
            return self.findings
        return judge(self.books, before=time.monotonic() - self.options.late)

    def _quit(self) -> None:
        self._environment.process_exit_code = NO_DATA if self.verdict is None else self.verdict.code


def conduct(
    scenario: str, *, users: int, spawn_rate: float, prepare: Prepare | None = None, disturbance: str = ""
) -> None:
    """Have this locustfile's run judged by the rules of `scenario`.

    `users` and `spawn_rate` are the defaults of Locust's own options. `prepare` gets the door before there
    are users; it runs once, where the run is led. `disturbance` is what `--disturb` is told then.
    """

    @events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
    def add_options(parser: Any) -> None:
        parser.set_defaults(num_users=users, spawn_rate=spawn_rate)
        parser.add_argument(
            "--origin", default="", help="what people's address bar says, where it isn't --host"
        )
        parser.add_argument("--expect-nodes", type=int, default=3, help="how many nodes there are")
        parser.add_argument("--metrics", default="", help="host:port,… of the nodes' internal ports")
        parser.add_argument("--steady", type=float, default=30.0, help="seconds from all joined to the end")
        parser.add_argument("--join", type=float, default=60.0, help="seconds until it goes on without some")
        parser.add_argument("--late", type=float, default=10.0, help="seconds until what is missing is lost")
        parser.add_argument("--thresholds", default=str(THRESHOLDS), help="another file of them")
        parser.add_argument("--disturb", default="loadtest/disturbances/local", help="who breaks things")

    @events.init.add_listener  # type: ignore[untyped-decorator]
    def begin(environment: Any, web_ui: Any, **_: Any) -> None:
        environment.conductor = Conductor(environment, scenario, prepare, disturbance)
        if web_ui is not None:
            extend(web_ui, environment.conductor)
