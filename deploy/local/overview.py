"""What runs where, and what a person can try with it, as text. Asks, and changes nothing."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Final

from deploy.local.nodes import Nodes
from deploy.local.plan import Plan
from deploy.local.ports import HOST
from deploy.local.processes import wait_until
from deploy.local.redis_servers import RedisServers, RedisServersError
from deploy.local.task_worker import NAME, TaskWorker

ANSWER_SECONDS: Final = 1.0

HEAR_SECONDS: Final = 5.0
"""Nodes that start tell of themselves every 2 s."""


def rows(plan: Plan, nodes: Nodes, worker: TaskWorker, redis: RedisServers) -> list[list[str]]:
    """A row for the page, each node, the worker and each server: what, address, pid, remark."""
    made = [["page", plan.url(plan.port), "", "any node: the kernel spreads connections"]]
    for number in range(1, plan.nodes + 1):
        pid = nodes.pid(number)
        remark = f"{plan.url(plan.internal_port(number))}metrics" if pid else "dead"
        if pid and (heard := _heard_by(plan.internal_port(number))):
            remark = f"{heard}; {remark}"
        made.append([f"node-{number}", plan.url(plan.node_port(number)), str(pid or ""), remark])
    if worker.wanted:
        remark = "background tasks; /metrics" if worker.pid else "dead"
        made.append([NAME, plan.url(plan.worker_port), str(worker.pid or ""), remark])
    try:
        primary = redis.primary_address()[1]
    except RedisServersError:
        primary = 0
    for name, (port, pid) in redis.processes().items():
        role = "watches" if name.startswith("sentinel") else "primary" if port == primary else "replica"
        made.append([name, f"127.0.0.1:{port}", str(pid or ""), role if pid else "dead"])
    return made


def wait_until_heard(plan: Plan) -> None:
    """Until all nodes that say whom they hear say that they hear all, or for HEAR_SECONDS."""
    ports = [plan.internal_port(number) for number in range(1, plan.nodes + 1)]
    wait_until(lambda: all(_heard_by(port) in ("", _all_of(plan.nodes)) for port in ports), HEAR_SECONDS)


def _all_of(count: int) -> str:
    return f"hears {count} of {count} nodes"


def _heard_by(internal_port: int) -> str:
    """How many nodes the one on that port hears, itself included; empty if it does not say."""
    connection = HTTPConnection(HOST, internal_port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/peers")
        own, *others = json.loads(connection.getresponse().read())["nodes"]
        return f"hears {len(own['hears'])} of {len(others) + 1} nodes"
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return ""
    finally:
        connection.close()


def what_to_try(plan: Plan) -> str:
    """For whoever sees this for the first time."""
    page, first, last = (
        plan.url(port) for port in (plan.port, plan.node_port(1), plan.node_port(plan.nodes))
    )
    commands = {
        f"make kill-node N={plan.nodes}": "pages opened at the shared port move to another node",
        f"make start-node N={plan.nodes}": "and it is back",
        f"make drain-node N={plan.nodes}": "a node leaves in good order, as in a rolling deploy",
        "make failover": "the replica becomes the primary",
        "make status": "this table, as it is then",
    }
    lines = [f"  {command:<22}{effect}" for command, effect in commands.items()]
    return "\n".join(
        [
            f"\nOpen {page} in two windows: one conversation, and the page says which node each is on.",
            f"To choose the nodes: {first} and {last}. Such a page waits for its node when that is killed.",
            "Meanwhile, in a second terminal:",
            *lines,
            "Ctrl-C ends everything.\n",
        ]
    )
