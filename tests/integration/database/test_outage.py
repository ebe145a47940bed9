"""A whole node while PostgreSQL is away: everybody is told, nobody waits long, and the log says it once."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from deploy.local.ports import HOST, free_ports
from deploy.local.processes import wait_until
from tests.failure.checker.proxy import Proxy
from tests.integration.database.conftest import PATIENCE, Run
from tests.integration.serving.servers import Server, server
from tests.visitor import Door, Visitor


class Guest(Visitor):
    """Looks at all of an answer."""

    def __init__(self, node: Server) -> None:
        super().__init__(Door(f"http://{HOST}:{node.port}", (HOST, node.port)))

    def asked(self, path: str, accept: str = "*/*", method: str = "GET") -> tuple[int, str | None, str]:
        """Status, `Retry-After`, text."""
        http = HTTPConnection(HOST, self.door.address[1], timeout=PATIENCE)
        headers = {"Cookie": self.cookie, "X-CSRFToken": self.cookies["csrftoken"], "Accept": accept}
        http.request(method, path, headers=headers)
        response = http.getresponse()
        text = response.read().decode()
        http.close()
        return response.status, response.headers["Retry-After"], text

    def page(self, _: int = 0) -> int:
        return self.asked("/rooms/lobby/", "text/html")[0]


@pytest.mark.parametrize("trouble", [Proxy.hold, Proxy.refuse])
def test_who_comes_while_the_database_is_away_is_told_to_come_back(
    database: str, run: Run, trouble: Callable[[Proxy], None]
) -> None:
    real = urlsplit(database)
    assert real.hostname and real.port
    assert run(database, "collectstatic", "--no-input").end() == 0  # pages name their files
    with Proxy((real.hostname, real.port), free_ports(1)[0]) as way:
        url = real._replace(netloc=real.netloc.replace(f":{real.port}", f":{way.port}")).geturl()
        with server("carillon", DATABASE_URL=url) as node:
            guest = Guest(node)
            guest.enter_as_guest("Ada")
            ticket = guest.ticket()
            assert guest.page() == 200
            trouble(way)
            with ThreadPoolExecutor(20) as crowd:
                assert set(crowd.map(guest.page, range(20), timeout=PATIENCE)) == {503}
            with ThreadPoolExecutor(1) as one:  # one after the other: nobody waits for an answer any more
                assert set(one.map(guest.page, range(60), timeout=PATIENCE)) == {503}

            status, retry, text = guest.asked("/rooms/lobby/", "text/html,*/*;q=0.8")
            assert (status, retry) == (503, "1") and "Back in a moment" in text
            status, retry, text = guest.asked("/accounts/ticket/", method="POST")
            assert (status, retry, json.loads(text)["error"]["code"]) == (503, "1", "unavailable")
            status, retry, text = guest.asked("/rooms/lobby/events/")
            assert (status, json.loads(text)["error"]["code"]) == (503, "unavailable")
            assert retry and 1 <= int(retry) <= 10, "those with connections come back spread out"
            with pytest.raises(InvalidStatus) as refused:
                guest.connect(origin=guest.door.origin, cookie=True)
            response = refused.value.response
            assert response.status_code == 503 and 1 <= int(response.headers["Retry-After"]) <= 10
            with guest.connect(origin=None, ticket=ticket) as connection:
                assert json.loads(connection.recv(PATIENCE))["event"] == "hello"
                join = {"id": 1, "command": "chat.join_room", "data": {"room": "lobby"}}
                connection.send(json.dumps(join))
                assert json.loads(connection.recv(PATIENCE))["error"]["code"] == "busy"
            for probe in ("/readyz", "/livez"):
                assert node.status(node.internal_port, probe) == 200

            way.pass_on()
            assert wait_until(lambda: guest.page() == 200, PATIENCE)
            assert guest.asked("/accounts/ticket/", method="POST")[0] == 200
        log = "\n".join(node.log)
        assert [log.count(f"app.database.outage: the database is {word}") for word in ("away", "back")] == [
            1,
            1,
        ], log
        for noise in ("Traceback", "Service Unavailable", "psycopg.pool"):
            assert noise not in log, log
