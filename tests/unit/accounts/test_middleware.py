import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pytest_django import Settings

from app.accounts import tickets
from app.accounts.middleware import IdentityMiddleware, OriginCheck
from app.accounts.refusals import Receive, Scope, Send
from app.accounts.tickets import Claim
from app.realtime.identity import Identity
from app.realtime.node import current_node
from tests.unit.accounts.wire import Arrived, http, outcome, websocket

ACCEPTED = ["websocket.accept"]
REFUSED = [403, "origin"]
GUEST = Claim(Identity("g1", "Grace", guest=True))


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("carillon_connections_refused_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize(
    "origin", ["https://chat.example.org", "http://localhost:8000", "HTTPS://Chat.Example.Org"]
)
async def test_an_allowed_origin_is_let_in(settings: Settings, origin: str) -> None:
    settings.HTTPS = True
    settings.ALLOWED_ORIGINS = ["https://chat.example.org", "http://localhost:8000"]
    assert await outcome(OriginCheck(Arrived()), websocket(origin)) == ACCEPTED


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://testserver",
        "http://chat.example.org",
        "http://chat.example.org:8443",
        "null",
        "*",
        "https://chat.example.org.evil.example",
        "https://chat.example.org/",
        "https://sub.chat.example.org",
    ],
)
async def test_any_other_origin_is_refused_even_with_a_ticket(settings: Settings, origin: str) -> None:
    settings.HTTPS = True
    settings.ALLOWED_HOSTS = ["chat.example.org", "testserver"]
    settings.ALLOWED_ORIGINS = ["https://chat.example.org"]
    before = refused("origin")
    inner = Arrived()
    # The Host is forged to match.
    scope = websocket(origin, host=origin.partition("://")[2], ticket=tickets.issue(GUEST))
    assert await outcome(OriginCheck(inner), scope) == REFUSED
    assert inner.scope is None
    assert refused("origin") == before + 1


@pytest.mark.parametrize("origin", ["http://testserver", "https://testserver", "http://testserver:8000"])
@pytest.mark.parametrize("origins", [[], ["https://chat.example.org"]])
async def test_a_page_of_the_same_host_is_let_in_listed_or_not(
    settings: Settings, origin: str, origins: list[str]
) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ALLOWED_ORIGINS = origins
    scope = websocket(origin, host=origin.partition("://")[2])
    assert await outcome(OriginCheck(Arrived()), scope) == ACCEPTED


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "testserver"),
        ("http://evil.example", "evil.example"),
        ("http://testserver:9000", "testserver:8000"),
        ("ftp://testserver", "testserver"),
        ("http://", ""),
        ("null", "null"),
    ],
)
@pytest.mark.parametrize("allowed_hosts", [["testserver"], ["testserver", "*"], []])
async def test_any_other_page_is_refused(
    settings: Settings, origin: str, host: str, allowed_hosts: list[str]
) -> None:
    settings.ALLOWED_HOSTS = allowed_hosts
    assert await outcome(OriginCheck(Arrived()), websocket(origin, host=host)) == REFUSED


async def test_two_origins_are_none() -> None:
    scope = websocket("http://testserver")
    scope["headers"].append((b"origin", b"http://testserver"))
    assert await outcome(OriginCheck(Arrived()), scope) == REFUSED


async def test_a_program_without_an_origin_needs_a_ticket() -> None:
    app = OriginCheck(IdentityMiddleware(Arrived()))
    assert await outcome(app, websocket(cookie="sessionid=whatever")) == REFUSED
    assert await outcome(app, websocket(ticket="forged")) == [401, "ticket_invalid"]
    assert await outcome(app, websocket(ticket=tickets.issue(GUEST))) == ACCEPTED


async def test_who_was_closed_for_flooding_is_not_let_in_before_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticket = tickets.issue(GUEST)
    app = IdentityMiddleware(Arrived())
    assert await outcome(app, websocket(ticket=ticket)) == ACCEPTED
    people = current_node().people
    monkeypatch.setattr(people, "shut_for", lambda person: 7.0 * (person == GUEST.identity.id))
    assert await outcome(app, websocket(ticket=ticket)) == [503, "flooding"]


async def test_a_server_that_cannot_refuse_with_a_status_closes_before_accept() -> None:
    app = OriginCheck(Arrived())
    assert await outcome(app, websocket("http://evil.example", denial=False)) == ["websocket.close"]


async def test_who_speaks_only_other_protocols_is_told_the_one_that_is_spoken_here() -> None:
    scope = websocket(ticket=tickets.issue(GUEST))
    scope["subprotocols"][0] = "carillon.v2"
    assert await outcome(IdentityMiddleware(Arrived()), scope) == [400, "subprotocol"]


async def test_a_ticket_says_who_it_is() -> None:
    inner = Arrived()
    assert await outcome(IdentityMiddleware(inner), websocket(ticket=tickets.issue(GUEST))) == ACCEPTED
    assert inner.scope is not None
    assert inner.scope["identity"] == GUEST.identity
    assert "on_accept" not in inner.scope  # there is nothing to verify about a guest


async def test_an_account_that_came_by_ticket_is_to_be_verified_after_accept() -> None:
    inner = Arrived()
    ticket = tickets.issue(Claim(Identity("u7", "Ada"), "ab" * 8))
    assert await outcome(IdentityMiddleware(inner), websocket(ticket=ticket)) == ACCEPTED
    assert inner.scope is not None and len(inner.scope["on_accept"]) == 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda ticket: ticket[:-1], "ticket_invalid"),
        (lambda ticket: "", "ticket_invalid"),
        (lambda ticket: ticket, "ticket_expired"),
    ],
)
async def test_a_bad_ticket_is_refused_with_its_reason_whatever_the_cookie_says(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[str], str], reason: str
) -> None:
    ticket, now, before = make(tickets.issue(GUEST)), time.time(), refused(reason)
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    app: Any = IdentityMiddleware(Arrived())
    assert await outcome(app, websocket(ticket=ticket, cookie="sessionid=good")) == [401, reason]
    assert refused(reason) == before + 1


async def test_a_ticket_is_checked_without_a_wait() -> None:
    """Driven by hand: the application behind is reached before anything has been awaited."""
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["identity"])

    scope = websocket(ticket=tickets.issue(GUEST))
    coroutine: Any = IdentityMiddleware(app)(scope, None, None)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert reached == [GUEST.identity]


async def test_nobody_is_refused() -> None:
    before = refused("no_identity")
    assert await outcome(IdentityMiddleware(Arrived()), websocket()) == [401, "no_identity"]
    assert refused("no_identity") == before + 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ["http.response.start"]),
        ({"sec-fetch-site": "same-origin"}, ["http.response.start"]),
        ({"origin": "http://testserver"}, ["http.response.start"]),
        ({"origin": "http://elsewhere.example"}, [403, "origin"]),
        ({"sec-fetch-site": "cross-site"}, [403, "origin"]),
        ({"sec-fetch-site": "same-site"}, [403, "origin"]),
        ({"authorization": "Bearer nonsense"}, [401, "ticket_invalid"]),
        ({"authorization": "Basic nonsense"}, [401, "no_identity"]),
    ],
)
async def test_a_stream_of_events_is_guarded_like_a_connection(
    headers: dict[str, str], expected: list[Any]
) -> None:
    async def arrived(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["identity"] == GUEST.identity
        await send({"type": "http.response.start", "status": 200, "headers": []})

    if expected == ["http.response.start"]:
        headers = headers | {"authorization": f"Bearer {tickets.issue(GUEST)}"}
    scope = http(headers)
    assert await outcome(OriginCheck(IdentityMiddleware(arrived)), scope) == expected
