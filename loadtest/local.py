"""`make loadtest`: a scenario against the nodes of `make run`; if none run, they are started for it.

With `URL=…` against whatever is there instead: nothing of this machine is looked at or started.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.local.control import NotRunning, ask
from deploy.local.plan import PROJECT_FOLDER, Plan, PlanError, plan_from_environment
from deploy.local.ports import HOST
from deploy.local.processes import wait_until

SCENARIOS: Final = Path(__file__).with_name("scenarios")
LOCUST: Final = (str(PROJECT_FOLDER / ".venv-load" / "bin" / "python"), "-m", "locust")
RESULTS: Final = PROJECT_FOLDER / ".cache" / "loadtest"
START_SECONDS: Final = 120.0
END_SECONDS: Final = 30.0
REFUSED: Final = 2
OPTIONS: Final = {
    "USERS": "--users",
    "RATE": "--spawn-rate",
    "STEADY": "--steady",
    "PROCESSES": "--processes",
    "URL": "--host",
    "ORIGIN": "--origin",
    "METRICS": "--metrics",
    "DISTURB": "--disturb",
}
"""What can be said as `USERS=500 make loadtest`, and Locust's option for it."""


def main(arguments: Sequence[str]) -> int:
    """Locust's exit code: 0 held, 1 broken, 3 no data; 2: it was not tried."""
    name, *others = arguments
    try:
        plan = plan_from_environment()
        scenario = SCENARIOS / f"{name}.py"
        if name.startswith("_") or not scenario.is_file():
            known = ", ".join(sorted(path.stem for path in SCENARIOS.glob("[a-z]*.py")))
            raise PlanError(f"no scenario {name!r}: expected one of {known}")
        folder = RESULTS / name
        folder.mkdir(parents=True, exist_ok=True)
        with nodes(plan, folder / "nodes.log"):
            return subprocess.run(
                command(plan, scenario, folder, others), cwd=PROJECT_FOLDER, check=False
            ).returncode
    except PlanError as error:
        sys.stderr.write(f"carillon: {error}\n")
        return REFUSED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def command(plan: Plan, scenario: Path, folder: Path, others: Sequence[str]) -> list[str]:
    """Locust as this plan's nodes want it."""
    made = [*LOCUST, "-f", str(scenario), "--expect-nodes", str(plan.nodes)]
    if not os.environ.get("URL"):
        ports = (plan.internal_port(number) for number in range(1, plan.nodes + 1))
        made += ["--host", plan.url(plan.port), "--metrics", ",".join(f"{HOST}:{port}" for port in ports)]
    made += ["--html", str(folder / "report.html"), "--csv", str(folder / "report")]
    made += ["--autostart"] if os.environ.get("WEB") else ["--headless", "--only-summary"]
    for variable, option in OPTIONS.items():
        if value := os.environ.get(variable):
            made += [option, value]
    return [*made, *others]


@contextmanager
def nodes(plan: Plan, log: Path) -> Iterator[None]:
    """Those that run, or new ones that say what they have to say in `log`. Raises `PlanError`."""
    if os.environ.get("URL") or _running(plan):
        yield
        return
    print(f"no nodes run: starting {plan.nodes} (their log: {log.relative_to(PROJECT_FOLDER)})", flush=True)
    with log.open("w") as lines:
        starter = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "run"],
            cwd=PROJECT_FOLDER,
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(lambda: starter.poll() is not None or _running(plan), START_SECONDS)
            if starter.poll() is not None or not _running(plan):
                raise PlanError(f"the nodes did not start:\n{log.read_text()[-2000:]}")
            yield
        finally:
            starter.terminate()
            try:
                starter.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                starter.kill()


def _running(plan: Plan) -> bool:
    """Whether somebody answers for this plan: the starter does when all is ready."""
    try:
        return ask(plan.control_socket, "status").done
    except NotRunning:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
