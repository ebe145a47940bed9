"""The doors of a real node: who is let in over HTTP and over WebSockets, and what its log says of it."""

import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.realtime.close_codes import IDENTITY_REVOKED, PASSWORD_CHANGED
from deploy.local.guardian import Guardian
from deploy.local.nodes import Nodes
from deploy.local.plan import PROJECT_FOLDER, Plan
from deploy.local.ports import HOST, free_ports, is_free
from deploy.local.processes import wait_until
from tests.visitor import PATIENCE, Door, Visitor


class OneNode:
    """A node without Redis, the lines of its log, and its database."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.log: list[str] = []
        self.origin = f"http://{HOST}:{plan.port}"

    def keep(self, _: str, line: str) -> None:
        self.log.append(line)

    def execute(self, statement: str, *parameters: str) -> None:
        with sqlite3.connect(self.plan.data_folder / "carillon.sqlite3", timeout=PATIENCE) as database:
            database.execute(statement, parameters)
        database.close()

    def internal(self, path: str) -> str:
        http = HTTPConnection(HOST, self.plan.internal_port(1), timeout=PATIENCE)
        http.request("GET", path)
        text = http.getresponse().read().decode()
        http.close()
        return text

    def refusals(self, reason: str) -> float:
        for line in self.internal("/metrics").splitlines():
            if line.startswith(f'carillon_connections_refused_total{{reason="{reason}"}} '):
                return float(line.rpartition(" ")[2])
        return 0.0


class Browser(Visitor):
    """One person's cookies, and the requests and connections made with them."""

    def __init__(self, node: OneNode) -> None:
        super().__init__(Door(node.origin, (HOST, node.plan.port)))
        self.node = node

    def refused(self, **identity: Any) -> tuple[int, str]:
        """The status and the reason with which no connection was made."""
        with pytest.raises(InvalidStatus) as refused:
            self.connect(**{"origin": None, **identity}).close()
        body = refused.value.response.body or b""
        return refused.value.response.status_code, bytes(body).decode().partition(":")[0]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    [port] = free_ports(1)
    while not all(is_free(used) for used, _ in Plan(1, port, HOST, Path()).uses()):
        [port] = free_ports(1)
    plan = Plan(1, port, HOST, tmp_path_factory.mktemp("node"))
    one = OneNode(plan)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATA_FOLDER", str(plan.data_folder))
        environment.setenv("LOG_LEVEL", "DEBUG")
        environment.setenv("LOG_FORMAT", "json")
        migrate = [sys.executable, "-m", "app.manage", "migrate", "--no-input", "--verbosity", "0"]
        subprocess.run(migrate, cwd=PROJECT_FOLDER, env=dict(os.environ), check=True, timeout=PATIENCE)
        guardian = Guardian()
        nodes = Nodes(plan, guardian, sentinels=[], primary_name="", on_line=one.keep)
        try:
            nodes.start(1)
            nodes.wait_until_ready([1])
            yield one
        finally:
            nodes.stop()
            guardian.close()


@pytest.fixture
def browser(node: OneNode) -> Browser:
    return Browser(node)


def greeted(connection: Any) -> Any:
    """The user in hello."""
    hello = json.loads(connection.recv(PATIENCE))
    assert hello["event"] == "hello"
    return hello["data"]["user"]


def test_an_account_comes_in_by_ticket_and_by_cookie(browser: Browser) -> None:
    browser.sign_up("Ada")
    with browser.connect(origin=None, ticket=browser.ticket()) as by_ticket:
        assert by_ticket.subprotocol == "carillon.v1"
        user = greeted(by_ticket)
        assert (user["name"], user["guest"]) == ("Ada", False)
    with browser.connect(origin=browser.node.origin, cookie=True) as by_cookie:
        assert greeted(by_cookie) == user


def test_a_guest_comes_in_under_the_chosen_name(browser: Browser) -> None:
    browser.enter_as_guest("Grace")
    with browser.connect(origin=browser.node.origin, cookie=True) as connection:
        user = greeted(connection)
    assert (user["name"], user["guest"]) == ("Grace", True)


def test_a_foreign_page_does_not_ride_on_the_cookie(browser: Browser) -> None:
    browser.sign_up("Linus")
    before = browser.node.refusals("origin")
    assert browser.refused(origin="https://evil.example", cookie=True) == (403, "origin")
    assert browser.refused(cookie=True) == (403, "origin")  # nor does a program
    assert browser.node.refusals("origin") == before + 2


def test_nobody_is_told_why_and_stays_outside(browser: Browser) -> None:
    assert browser.refused(origin=browser.node.origin) == (401, "no_identity")
    browser.cookies["sessionid"] = "x" * 32
    assert browser.refused(origin=browser.node.origin, cookie=True) == (401, "no_identity")
    assert browser.refused(ticket="forged") == (401, "ticket_invalid")


@pytest.mark.parametrize("path", ["/nowhere/", "/realtime/nowhere/"])
def test_no_refusal_is_an_error_in_the_log(browser: Browser, path: str) -> None:
    origin = browser.node.origin
    assert browser.refused(path=path, origin="https://evil.example") == (403, "origin")
    assert browser.refused(path=path, ticket="forged") == (401, "ticket_invalid")
    assert browser.refused(path=path, origin=origin) == (401, "no_identity")
    browser.enter_as_guest("Radia")
    assert browser.refused(path=path, origin=origin, cookie=True) == (404, "no_door")
    browser.refused(path=path)  # what the loop does for the others is done
    last = f"/{secrets.token_hex(8)}"
    browser.node.internal(last)  # and in the log
    assert wait_until(lambda: any(last in line for line in browser.node.log), PATIENCE)
    assert not [line for line in browser.node.log if json.loads(line)["level"] == "ERROR"]


@pytest.mark.parametrize(
    ("change", "code"), [("is_active = 0", IDENTITY_REVOKED), ("password = 'another'", PASSWORD_CHANGED)]
)
def test_who_may_no_longer_connect_is_closed_although_the_ticket_is_good(
    browser: Browser, change: str, code: int
) -> None:
    name = f"Edsger {secrets.token_hex(4)}"
    browser.sign_up(name)
    ticket = browser.ticket()
    browser.node.execute(f"UPDATE accounts_user SET {change} WHERE username = ?", name)
    with browser.connect(origin=None, ticket=ticket) as connection:
        assert greeted(connection)["name"] == name
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(PATIENCE)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == code
    assert browser.refused(origin=browser.node.origin, cookie=True) == (401, "no_identity")


def test_neither_tickets_nor_session_keys_are_in_the_log_even_at_its_most_talkative(browser: Browser) -> None:
    browser.sign_up("Barbara")
    ticket = browser.ticket()
    with browser.connect(origin=None, ticket=ticket) as connection:
        greeted(connection)
    assert browser.refused(ticket=ticket[:-1])[0] == 401
    with browser.connect(origin=browser.node.origin, cookie=True) as connection:
        greeted(connection)
    log = "\n".join(browser.node.log)
    assert "Booting worker" in log  # this is the log that is looked into
    assert ticket[:-1] not in log
    assert browser.cookies["sessionid"] not in log


def test_each_line_of_a_log_in_json_is_an_object_that_names_the_node(browser: Browser) -> None:
    browser.enter_as_guest("Margaret")
    with socket.create_connection((HOST, browser.node.plan.port), timeout=PATIENCE) as talker:
        talker.sendall(b"no HTTP\r\n\r\n")
        assert talker.recv(1000).startswith(b"HTTP/1.1 400")
    assert wait_until(lambda: any("Invalid HTTP" in line for line in browser.node.log), PATIENCE)  # uvicorn's
    lines = [json.loads(line) for line in browser.node.log]
    assert {line["node"] for line in lines} == {"node-1"}
    assert {"gunicorn.error", "app.realtime.redis_broker"} & {line["logger"] for line in lines}
