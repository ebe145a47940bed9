"""`python -m deploy.local <command>`, as the Makefile calls it. Prints, and returns exit codes."""

import argparse

from deploy.local import data_folder
from deploy.local.control import NotRunning, ask
from deploy.local.plan import Plan, PlanError, plan_from_environment
from deploy.local.processes import StartFailed
from deploy.local.supervisor import run
from deploy.local.terminal import complain, show_table

FAILED, REFUSED = 1, 2
"""It was tried and did not work; it was not tried, because what was asked or what is there forbids it."""


def main(arguments: list[str]) -> int:
    """Do it; every expected failure is a line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local")
    parser.add_argument(
        "command",
        choices=["run", "kill-node", "drain-node", "start-node", "failover", "status", "clean-data"],
    )
    parser.add_argument("argument", nargs="?", default="")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "run":
            run()
            return 0
        plan = plan_from_environment()
        if asked.command == "clean-data":
            return _clean(plan)
        return _ask(plan, asked.command, asked.argument)
    except StartFailed as error:
        complain(str(error))
        return FAILED
    except PlanError as error:
        for line in str(error).splitlines():
            complain(line)
        return REFUSED


def _ask(plan: Plan, command: str, argument: str) -> int:
    try:
        answer = ask(plan.control_socket, command, argument)
    except NotRunning:
        complain(f"nothing runs with its data in {plan.data_folder}: start it with `make run`")
        return FAILED
    if answer.rows:
        show_table(answer.rows)
    elif answer.done:
        print(answer.text)
    else:
        complain(answer.text)
    return 0 if answer.done else FAILED


def _clean(plan: Plan) -> int:
    names = data_folder.forget(plan.data_folder)
    print(f"forgot {', '.join(names)} in {plan.data_folder}" if names else f"no data in {plan.data_folder}")
    return 0
