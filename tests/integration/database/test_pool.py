"""A whole node on a real PostgreSQL: its pool is bounded, gets everything back, and survives the database."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from threading import Event, Thread
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from deploy.local.ports import HOST
from deploy.local.processes import wait_until
from tests.integration.database.conftest import PATIENCE, Run, session
from tests.integration.serving.servers import Server, server
from tests.postgres_server import PostgresServer, new_database

TOKEN = "t" * 32
OURS = "FROM pg_stat_activity WHERE application_name = 'carillon/pool-test' AND datname = current_database()"


class Guest:
    """Somebody who is at the node many times at once."""

    def __init__(self, node: Server) -> None:
        self.node = node
        self._threads = ThreadPoolExecutor(max_workers=40)
        self._headers = {"Host": "localhost", "Cookie": f"csrftoken={TOKEN}", "X-CSRFToken": TOKEN}
        response = self._post("/accounts/guest/", urlencode({"name": "Ada"}))
        cookies = response.headers.get_all("Set-Cookie", [])
        session_cookie = next(cookie for cookie in cookies if cookie.startswith("sessionid="))
        self._headers["Cookie"] += "; " + session_cookie.partition(";")[0]

    def ask(self, count: int) -> list[Future[int]]:
        """The statuses of that many requests that need the database, all sent together."""
        return [self._threads.submit(lambda: self._post("/accounts/ticket/").status) for _ in range(count)]

    def ask_and_leave(self, count: int) -> None:
        """Send that many, and go away without waiting for an answer."""
        lines = [f"{name}: {value}\r\n" for name, value in self._headers.items()]
        request = f"POST /accounts/ticket/ HTTP/1.1\r\n{''.join(lines)}Content-Length: 0\r\n\r\n"
        for _ in range(count):
            with socket.create_connection((HOST, self.node.port)) as gone:
                gone.sendall(request.encode())

    def connect(self, count: int) -> list[Future[str]]:
        """The names under which that many connections come in by the session's cookie, opened together."""
        return [self._threads.submit(self._name_of_connection) for _ in range(count)]

    def _post(self, path: str, body: str = "") -> HTTPResponse:
        http = HTTPConnection(HOST, self.node.port, timeout=PATIENCE)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        http.request("POST", path, body, self._headers | form)
        response = http.getresponse()
        response.read()
        http.close()
        return response

    def _name_of_connection(self) -> str:
        options: dict[str, Any] = {"additional_headers": {"Cookie": self._headers["Cookie"]}, "proxy": None}
        address = f"{HOST}:{self.node.port}"
        with connect(
            f"ws://{address}/realtime/",
            origin=Origin(f"http://{address}"),
            subprotocols=[Subprotocol("carillon.v1")],
            open_timeout=PATIENCE,
            **options,
        ) as connection:
            return str(json.loads(connection.recv(PATIENCE))["data"]["user"]["name"])


class Watch:
    """The most connections that the node ever had."""

    def __init__(self, url: str) -> None:
        self.most = 0
        self._done = Event()
        self._connection = psycopg.connect(url, autocommit=True)
        self._thread = Thread(target=self._look)
        self._thread.start()

    def count(self, condition: str = "true") -> int:
        """How many there are now."""
        [number] = self._connection.execute(f"SELECT count(*) {OURS} AND {condition}").fetchone() or [0]
        return int(number)

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self._connection.close()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, self.count())


@pytest.fixture
def watch(database: str) -> Iterator[Watch]:
    watch = Watch(database)
    yield watch
    watch.close()


def all_done(futures: list[Future[Any]]) -> set[Any]:
    """What they came to, each kind once."""
    return {future.result(PATIENCE) for future in futures}


def pool(node: Server, state: str) -> float:
    """What the node itself says of its pool."""
    return node.metric(f'carillon_database_pool{{state="{state}"}}')


def test_a_crowd_shares_the_pool_and_gives_everything_back(database: str, watch: Watch) -> None:
    settings = {"DATABASE_URL": database, "DATABASE_POOL_SIZE": "2", "DATABASE_CONNECT_SECONDS": "60"}
    with server("carillon", NODE_NAME="pool-test", **settings) as node:
        guest = Guest(node)
        for _ in range(2):
            with session(database) as other:
                other.execute("LOCK TABLE django_session")
                guest.ask_and_leave(6)
                answers = guest.ask(12)
                # All of the pool waits here: nothing of the round before was lost.
                assert wait_until(lambda: watch.count("wait_event_type = 'Lock'") == 2, PATIENCE)
                now = {state: pool(node, state) for state in ("open", "idle", "allowed")}
                assert now == {"open": 2, "idle": 0, "allowed": 2}
                assert wait_until(lambda: pool(node, "waiting") > 0, PATIENCE)
            names = guest.connect(12)
            assert (all_done(answers), all_done(names)) == ({200}, {"Ada"})
        assert wait_until(lambda: watch.count("state <> 'idle'") == 0, PATIENCE)
        assert wait_until(lambda: (pool(node, "waiting"), pool(node, "idle")) == (0, 2), PATIENCE)
    assert watch.most == 2


def test_requests_and_look_ups_take_turns_with_a_pool_of_one(database: str, watch: Watch) -> None:
    settings = {"DATABASE_URL": database, "DATABASE_POOL_SIZE": "1"}
    with server("carillon", NODE_NAME="pool-test", **settings) as node:
        guest = Guest(node)
        for _ in range(2):
            assert all_done(guest.connect(2)) == {"Ada"}
            assert all_done(guest.ask(2)) == {200}
    assert watch.most == 1


def test_nobody_meets_a_connection_that_died_with_the_database(run: Run) -> None:
    with PostgresServer() as postgres:
        url = new_database(postgres.url())
        assert run(url, "migrate").end() == 0
        with server("carillon", DATABASE_URL=url, DATABASE_CONNECT_SECONDS="2") as node:
            guest = Guest(node)
            assert all_done(guest.ask(8)) == {200}
            postgres.stop()
            postgres.start()
            # The node may have noticed that it was away; then it looks every half second whether it is back.
            assert wait_until(lambda: all_done(guest.ask(1)) == {200}, PATIENCE)
            assert all_done(guest.ask(8)) == {200}
            postgres.stop()
            assert all_done(guest.ask(1)) == {503}
            postgres.start()
            assert wait_until(lambda: all_done(guest.ask(1)) == {200}, PATIENCE)
