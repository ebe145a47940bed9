"""Access that ends on one real node, or in a shell, ends on another: whatever way somebody came in."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from itertools import count
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from app.realtime.close_codes import IDENTITY_REVOKED, PASSWORD_CHANGED, SESSION_ENDED
from tests.failure.checker.place import Place
from tests.visitor import PASSWORD, PATIENCE, Door, Visitor

MAKE_OPERATOR = f"""
from app.accounts.models import User
User.objects.create_superuser("Olga", password="{PASSWORD}")
"""
DISABLE = """
from app.accounts.models import User
user = User.objects.get(username="{name}")
user.is_active = False
user.save()
"""
CHANGE_PASSWORD = """
from app.accounts.models import User
user = User.objects.get(username="{name}")
user.set_password("another walk on the beach")
user.save()
"""
END_SESSIONS = """
from django.contrib.sessions.models import Session
Session.objects.filter(pk="{session}").delete()
"""
LOSE_MEMBERSHIP = """
from app.chat.models import Membership
Membership.objects.get(room__slug="attic", person="{person}").delete()
"""
MAKE_MEMBER = """
from app.chat.models import Membership, Role, Room
from app.chat.services import open_room
open_room("attic", "Attic", public=False)
Membership.objects.create(room=Room.objects.get(slug="attic"), person="{person}", role=Role.MEMBER)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("place"), "postgresql", nodes=2) as place:
        place.manage("shell", "-c", MAKE_OPERATOR)
        yield place


names = (f"Ada {number}" for number in count())


class Somebody(Visitor):
    """Who logs in at the first node and is connected to the second one."""

    def __init__(self, place: Place, open_until_the_end: ExitStack) -> None:
        self.first, self.second = (
            Door(f"http://127.0.0.1:{n.port}", ("127.0.0.1", n.port)) for n in place.nodes
        )
        super().__init__(self.first)
        self.name = self.person = ""
        self._stack = open_until_the_end

    def by_cookie(self) -> ClientConnection:
        return self._greeted(cookie=True)

    def by_ticket(self) -> ClientConnection:
        return self._greeted(ticket=self.ticket())

    def by_ticket_to_a_stock_consumer(self) -> ClientConnection:
        return self._greeted("/markers/somebody/", ticket=self.ticket())

    def _greeted(
        self, path: str = "/realtime/", *, ticket: str | None = None, cookie: bool = False
    ) -> ClientConnection:
        self.door = self.second
        try:
            way = self.connect(path, origin=self.door.origin, ticket=ticket, cookie=cookie)
            connection = self._stack.enter_context(way)
        finally:
            self.door = self.first
        hello = json.loads(connection.recv(PATIENCE))
        assert hello["event"] == "hello"
        if "user" in hello["data"]:
            self.person = hello["data"]["user"]["id"]
        return connection

    def listens(self) -> HTTPConnection:
        """By server-sent events; the snapshot is read."""
        http = HTTPConnection(*self.second.address, timeout=PATIENCE)
        self._stack.callback(http.close)
        http.request("GET", "/rooms/lobby/events/", headers={"Cookie": self.cookie})
        return http

    def is_refused(self) -> bool:
        with pytest.raises(InvalidStatus) as refused:
            self.by_cookie()
        return refused.value.response.status_code == 401


def closed(connection: ClientConnection) -> int | None:
    """The code with which the node closes it."""
    try:
        while True:
            connection.recv(PATIENCE)
    except ConnectionClosed as ended:
        return ended.rcvd.code if ended.rcvd else None


def answers(connection: ClientConnection) -> bool:
    connection.send('{"id": 1, "command": "ping", "data": {}}')
    return bool(json.loads(connection.recv(PATIENCE)) == {"id": 1, "reply": {}})


def shell(place: Place, script: str, **what: str) -> None:
    place.manage("shell", "-c", script.format(**what))


Come = Callable[[], Somebody]


@pytest.fixture
def come(place: Place) -> Iterator[Come]:
    with ExitStack() as stack:
        yield lambda: Somebody(place, stack)


@pytest.fixture
def ada(come: Come) -> Somebody:
    somebody = come()
    somebody.name = next(names)
    somebody.sign_up(somebody.name)
    return somebody


@pytest.mark.parametrize(
    ("script", "code"),
    [(DISABLE, IDENTITY_REVOKED), (CHANGE_PASSWORD, PASSWORD_CHANGED), (END_SESSIONS, SESSION_ENDED)],
)
def test_what_a_shell_does_ends_every_way_in(
    place: Place, come: Come, ada: Somebody, script: str, code: int
) -> None:
    bob = come()
    bob.enter_as_guest("Bob")
    ways: list[Callable[[], ClientConnection]] = [
        ada.by_cookie,
        ada.by_ticket,
        ada.by_ticket_to_a_stock_consumer,
    ]
    connections = [connect() for connect in ways]
    stays, page = bob.by_cookie(), ada.listens()
    response = page.getresponse()
    assert response.readline() == b"event: snapshot\n"
    shell(place, script, name=ada.name, session=ada.cookies["sessionid"])
    assert [closed(connection) for connection in connections] == [code] * 3
    while response.readline():
        pass
    assert ada.is_refused()
    assert answers(stays)


def test_an_account_that_is_disabled_in_the_admin_site_is_out_on_the_other_node(
    come: Come, ada: Somebody
) -> None:
    olga = come()
    olga.log_in("Olga")
    connection = ada.by_cookie()
    answer = olga.post(
        f"/admin/accounts/user/{ada.person[1:]}/change/",
        username=ada.name,
        date_joined_0="2026-01-01",
        date_joined_1="00:00:00",
    )
    assert answer.status == 302, answer.text
    assert closed(connection) == IDENTITY_REVOKED
    assert ada.is_refused()


@pytest.mark.parametrize("guest", [False, True])
def test_a_log_out_ends_the_connections_of_its_session_and_of_no_other(
    come: Come, ada: Somebody, guest: bool
) -> None:
    elsewhere = come()
    if guest:
        ada = come()
        ada.enter_as_guest("Grace")
        elsewhere.enter_as_guest("Grace")
    else:
        elsewhere.log_in(ada.name)
    connections = [ada.by_cookie(), ada.by_ticket()]
    others = [elsewhere.by_cookie(), elsewhere.by_ticket()]
    assert ada.post("/accounts/log-out/").status == 302
    assert [closed(connection) for connection in connections] == [SESSION_ENDED] * 2
    assert ada.is_refused()
    for connection in others:
        assert answers(connection)


def test_a_membership_that_is_deleted_in_the_shell_ends_the_room(place: Place, ada: Somebody) -> None:
    connection = ada.by_cookie()
    shell(place, MAKE_MEMBER, person=ada.person)
    join = '{"id": 1, "command": "chat.join_room", "data": {"room": "attic"}}'
    connection.send(join)
    assert json.loads(connection.recv(PATIENCE))["reply"]["role"] == "member"
    shell(place, LOSE_MEMBERSHIP, person=ada.person)
    frame: dict[str, Any] = {}
    while frame.get("event") != "stream.reset":
        frame = json.loads(connection.recv(PATIENCE))
    assert frame["data"] == {"stream": "room.attic", "reason": "rights"}
    connection.send(join)
    assert json.loads(connection.recv(PATIENCE))["error"]["code"] == "not_found"


def test_without_redis_the_change_comes_by_way_of_the_database(place: Place, ada: Somebody) -> None:
    connection = ada.by_cookie()
    for name in place.redis.processes():
        place.redis.kill(name)
    try:
        shell(place, DISABLE, name=ada.name)
        assert closed(connection) == IDENTITY_REVOKED
    finally:
        place.heal()
