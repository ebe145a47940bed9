from typing import Any, Protocol

import pytest
from django.contrib.auth import SESSION_KEY
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from app.accounts import tickets
from app.accounts.models import User
from app.accounts.names import NAME_TAKEN
from app.accounts.selectors import claim_of_user
from app.realtime.identity import Identity

pytestmark = pytest.mark.django_db

PASSWORD = "a long walk on the beach"


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("Ada", password=PASSWORD)


@pytest.fixture
def strict_client() -> Client:
    """A client that is held to CSRF, as a browser is."""
    return Client(enforce_csrf_checks=True)


class Ask(Protocol):
    def __call__(self, client: Client, name: str) -> str: ...


def led_or_told(response: Any) -> str:
    """Where a form leads, or what it says is wrong."""
    if "Location" in response.headers:
        return str(response.headers["Location"])
    return " ".join(str(line) for lines in response.context["form"].errors.values() for line in lines)


def sign_up(client: Client, name: str, **extra: str) -> str:
    response = client.post(
        reverse("accounts:sign_up"),
        {"username": name, "password1": PASSWORD, "password2": PASSWORD, **extra},
    )
    return led_or_told(response)


def enter(client: Client, name: str, **extra: str) -> str:
    response = client.post(reverse("accounts:guest"), {"name": name, **extra})
    return led_or_told(response)


def identity(client: Client) -> Identity | None:
    """Who the client's ticket says it is."""
    response = client.post(reverse("accounts:ticket"))
    return tickets.verify(response.json()["ticket"]).identity if response.status_code == 200 else None


def test_who_signs_up_is_logged_in_under_the_name_they_wrote(client: Client) -> None:
    assert sign_up(client, "  Ada   Lovelace ") == "/"
    user = User.objects.get()
    assert user.username == "Ada Lovelace"
    assert identity(client) == Identity(f"u{user.pk}", "Ada Lovelace")


@pytest.mark.parametrize("name", ["Ada", "aDA", " ada ", "\uff21da"])
@pytest.mark.parametrize("ask", [sign_up, enter])
def test_nobody_takes_a_name_that_reads_like_an_accounts(
    client: Client, ada: User, ask: Ask, name: str
) -> None:
    assert ask(client, name) == NAME_TAKEN
    assert identity(client) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\u200bda", "visible characters only"),
        ("a" * 41, "at most 40"),
        (" ", "required"),
        ("ﬃ" * 14, "1 to 40"),
    ],
)
@pytest.mark.parametrize("ask", [sign_up, enter])
def test_a_name_that_cannot_be_read_is_refused_with_a_reason(
    client: Client, ask: Ask, name: str, reason: str
) -> None:
    assert reason in ask(client, name)
    assert identity(client) is None


def test_two_sign_ups_for_one_name_at_once_leave_one_account(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both have asked before either writes.
    monkeypatch.setattr(User, "clean", lambda user: None)
    assert sign_up(client, "ADA") == NAME_TAKEN
    assert list(User.objects.all()) == [ada]


def test_who_logs_in_may_write_their_name_in_any_case(client: Client, ada: User) -> None:
    for name in ("Ada", "ADA", " ada"):
        response = client.post(reverse("accounts:log_in"), {"username": name, "password": PASSWORD})
        assert response.headers["Location"] == "/"
        assert identity(client) == Identity(f"u{ada.pk}", "Ada")
        client.logout()


@pytest.mark.parametrize(("name", "password"), [("Ada", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_log_in_does_not_say_which_half_was_wrong(
    client: Client, ada: User, name: str, password: str
) -> None:
    response = client.post(reverse("accounts:log_in"), {"username": name, "password": password})
    assert "No account has this name and password." in response.content.decode()
    assert identity(client) is None


def test_who_logs_out_is_nobody(client: Client, ada: User) -> None:
    client.force_login(ada)
    assert client.post(reverse("accounts:log_out")).headers["Location"] == "/"
    assert identity(client) is None


def test_a_guest_keeps_an_id_and_may_change_the_name(client: Client) -> None:
    assert enter(client, "Grace") == "/"
    first = identity(client)
    assert first is not None and first.guest and first.name == "Grace" and first.id.startswith("g")
    enter(client, "Grace H")
    assert identity(client) == Identity(first.id, "Grace H", guest=True)
    client.post(reverse("accounts:log_out"))
    assert identity(client) is None


def test_two_guests_are_two_people(client: Client) -> None:
    other = Client()
    enter(client, "Grace")
    enter(other, "Grace")
    assert identity(client) != identity(other)


def test_a_session_gets_a_new_key_when_somebody_enters(client: Client) -> None:
    enter(client, "Grace")
    before = client.session.session_key
    enter(client, "Grace H")
    assert client.session.session_key != before


def test_a_guest_who_logs_in_is_a_guest_no_more(client: Client, ada: User) -> None:
    enter(client, "Grace")
    client.post(reverse("accounts:log_in"), {"username": "Ada", "password": PASSWORD})
    assert identity(client) == Identity(f"u{ada.pk}", "Ada")
    assert "guest" not in client.session


def test_an_account_that_was_deactivated_is_nobody_until_it_chooses_to_be_a_guest(
    client: Client, ada: User
) -> None:
    client.force_login(ada)
    User.objects.update(is_active=False)
    assert identity(client) is None
    enter(client, "Grace")
    known = identity(client)
    assert known is not None and known.guest
    assert SESSION_KEY not in client.session


def test_a_ticket_carries_what_its_verification_needs(client: Client, ada: User) -> None:
    client.force_login(ada)
    response = client.post(reverse("accounts:ticket"))
    assert response.json()["expires_in"] == 30
    assert tickets.verify(response.json()["ticket"]) == claim_of_user(ada, client.session.session_key or "")
    assert "no-store" in response.headers["Cache-Control"]


def test_a_ticket_is_for_posts_with_a_session_and_a_csrf_token(strict_client: Client, client: Client) -> None:
    assert client.get(reverse("accounts:ticket")).status_code == 405
    assert client.post(reverse("accounts:ticket")).status_code == 401
    assert strict_client.post(reverse("accounts:ticket")).status_code == 403
    strict_client.get(reverse("accounts:guest"))
    token = strict_client.cookies["csrftoken"].value
    strict_client.post(reverse("accounts:guest"), {"name": "Grace", "csrfmiddlewaretoken": token})
    token = strict_client.cookies["csrftoken"].value
    answer = strict_client.post(reverse("accounts:ticket"), headers={"x-csrftoken": token})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("/rooms/lobby/", "/rooms/lobby/"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
        ("", "/"),
        ("javascript:alert(1)", "/"),
        ("https:evil.example", "/"),
        ("http://testserver/x", "http://testserver/x"),
    ],
)
def test_people_are_led_back_but_never_away(client: Client, ada: User, asked: str, led: str) -> None:
    assert enter(client, "Grace", next=asked) == led
    client.post(reverse("accounts:log_out"))
    assert sign_up(client, "Linus", next=asked) == led
    client.post(reverse("accounts:log_out"))
    form = {"username": "Ada", "password": PASSWORD, "next": asked}
    assert client.post(reverse("accounts:log_in"), form).headers["Location"] == led


@pytest.mark.parametrize("door", ["log_in", "sign_up", "guest"])
def test_each_form_shows_itself_and_hands_on_where_to_return(client: Client, ada: User, door: str) -> None:
    url = reverse(f"accounts:{door}")
    page = client.get(url, {"next": "/rooms/lobby/"}).content.decode()
    assert '<form class="card" method="post">' in page
    assert '<input type="hidden" name="next" value="/rooms/lobby/">' in page
    assert "?next=/rooms/lobby/" in page
    client.force_login(ada)
    assert client.get(url).headers["Location"] == "/"


def test_doors_that_are_switched_off_are_not_there(client: Client, settings: Settings) -> None:
    enter(client, "Grace")
    settings.SIGN_UP_ALLOWED = settings.GUESTS_ALLOWED = False
    assert client.get(reverse("accounts:sign_up")).status_code == 404
    assert client.get(reverse("accounts:guest")).status_code == 404
    assert identity(client) is None
    page = client.get(reverse("accounts:log_in")).content.decode()
    assert reverse("accounts:sign_up") not in page
    assert reverse("accounts:guest") not in page
