"""Chat's pages as a browser gets them."""

import re

import pytest
from django.test import Client
from pytest_django import Settings

from app.chat.models import Membership, Role, Room
from app.chat.services import open_room
from app.realtime.identity import Identity

pytestmark = pytest.mark.django_db


@pytest.fixture
def guest(client: Client) -> Client:
    client.post("/accounts/guest/", {"name": "bob"})
    return client


def test_a_newcomer_finds_rooms(client: Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert b"/rooms/lobby/" in page.content


def test_a_room_asks_who_you_are_and_brings_you_back(client: Client) -> None:
    page = client.get("/rooms/lobby/")
    assert (page.status_code, page.headers["Location"]) == (302, "/accounts/guest/?next=%2Frooms%2Flobby%2F")


def test_without_guests_a_room_asks_for_an_account(client: Client, settings: Settings) -> None:
    settings.GUESTS_ALLOWED = False
    assert client.get("/rooms/lobby/").headers["Location"].startswith("/accounts/log-in/")


def test_a_guest_gets_the_room(guest: Client) -> None:
    page = guest.get("/rooms/lobby/")
    assert page.status_code == 200
    assert b'data-room="lobby"' in page.content


def test_an_address_without_a_room_offers_to_open_it(guest: Client) -> None:
    page = guest.get("/rooms/a--new-room/")
    assert page.status_code == 404
    assert b"Nobody has opened a room" in page.content
    opened = guest.post("/", {"slug": "a--new-room", "title": "A  new room"})
    assert opened.headers["Location"] == "/rooms/a--new-room/"
    assert guest.get("/rooms/a--new-room/").status_code == 200


def test_a_room_for_members_is_to_others_as_if_it_were_not_there(guest: Client) -> None:
    open_room("cellar", "Cellar", opener=Identity("u1", "ada"), public=False)
    missing, hidden = (guest.get(f"/rooms/{slug}/") for slug in ("nowhere", "cellar"))
    assert (missing.status_code, hidden.status_code) == (404, 404)
    tokens = re.compile(rb'name="csrfmiddlewaretoken" value="[^"]+"')
    without = [tokens.sub(b"", page.content) for page in (missing, hidden)]
    assert without[0].replace(b"nowhere", b"cellar").replace(b"Nowhere", b"Cellar") == without[1]
    assert b"cellar" not in guest.get("/").content


def test_an_address_that_somebody_else_has_taken_is_refused_and_no_way_in(guest: Client) -> None:
    open_room("cellar", "Cellar", public=False)
    for data in ({"title": "Cellar"}, {"title": "My own", "slug": "cellar"}):
        page = guest.post("/", data)
        assert page.status_code == 422
        assert b"This address is taken" in page.content
    assert b'name="slug" value="cellar"' not in page.content


def test_who_opens_a_room_for_members_is_its_owner_and_sees_it(guest: Client) -> None:
    page = guest.post("/", {"title": "Cellar", "access": "members"})
    assert page.headers["Location"] == "/rooms/cellar/"
    room = Room.objects.get(slug="cellar")
    assert not room.public
    assert list(room.memberships.values_list("name", "role")) == [("bob", "owner")]
    assert guest.get("/rooms/cellar/").status_code == 200
    for path in ("/", "/rooms/cellar/"):
        assert b"members only" in guest.get(path).content
    assert not Client().get("/").content.count(b"cellar")


def test_who_is_banned_is_told_so(guest: Client) -> None:
    open_room("belfry", "Belfry")
    person = guest.session["guest"]["id"]
    Membership.objects.create(room=Room.objects.get(slug="belfry"), person=person, role=Role.BANNED)
    assert guest.get("/rooms/belfry/").status_code == 403


@pytest.mark.parametrize("slug", ["-a", "a-", "A", "a_b", "a" * 41, "é", "a%0A"])
def test_an_address_that_can_be_no_room_is_not_found(guest: Client, slug: str) -> None:
    page = guest.get(f"/rooms/{slug}/")
    assert page.status_code == 404
    assert b"Nothing is here" in page.content


def test_a_room_is_opened_by_its_name(guest: Client) -> None:
    page = guest.post("/", {"title": "Café & Co_workers"})
    assert page.headers["Location"] == "/rooms/cafe-co-workers/"
    assert Room.objects.get(slug="cafe-co-workers").title == "Café & Co_workers"


def test_opening_an_open_room_leads_there(guest: Client) -> None:
    open_room("lobby", "Lobby")
    assert guest.post("/", {"title": "Lobby"}).headers["Location"] == "/rooms/lobby/"
    assert Room.objects.filter(slug="lobby").count() == 1


@pytest.mark.parametrize(
    "data", [{"title": ""}, {"title": "…"}, {"title": "x" * 61}, {"title": "x", "slug": "-"}]
)
def test_a_bad_name_gets_a_clear_line(guest: Client, data: dict[str, str]) -> None:
    page = guest.post("/", data)
    assert page.status_code == 422
    assert b"errorlist" in page.content


def test_only_somebody_may_open_a_room(client: Client) -> None:
    assert client.post("/", {"title": "Mine"}).headers["Location"].startswith("/accounts/guest/")
    assert not Room.objects.filter(slug="mine").exists()


def test_titles_are_escaped(guest: Client) -> None:
    open_room("evil", "<script>alert(1)</script>")
    for path in ("/", "/rooms/evil/"):
        assert b"<script>alert" not in guest.get(path).content


def test_no_page_allows_inline_scripts(guest: Client) -> None:
    for path in ("/", "/rooms/lobby/"):
        policy = guest.get(path).headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
