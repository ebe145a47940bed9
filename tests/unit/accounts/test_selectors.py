from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY
from django.contrib.sessions.models import Session
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from app.accounts.models import User
from app.accounts.selectors import claim_of_user, claims_of_sessions, claims_that_no_longer_hold
from app.accounts.tickets import Claim
from app.realtime.close_codes import IDENTITY_REVOKED, PASSWORD_CHANGED, SESSION_ENDED
from app.realtime.identity import Identity
from tests.unit.accounts.conftest import MakeSession, MakeUser

GUEST = {"guest": {"id": "g1", "name": "Grace"}}


def test_accounts_and_guests_are_found_with_two_queries(
    make_user: MakeUser, make_session: MakeSession, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    users = [make_user(f"user {number}") for number in range(20)]
    keys = [make_session(user) for user in users]
    guest, empty = make_session(**GUEST), make_session(theme="dark")
    with django_assert_num_queries(2):
        found = claims_of_sessions([*keys, guest, empty, "x" * 32])
    assert found == {
        **{key: claim_of_user(user, key) for key, user in zip(keys, users, strict=True)},
        guest: Claim(Identity("g1", "Grace", guest=True), session=guest),
    }


def test_a_session_lets_nobody_in_once_its_account_may_not(
    make_user: MakeUser, make_session: MakeSession
) -> None:
    keys = {}
    for reason in ("inactive", "gone", "new password", "expired", "backend"):
        user = make_user(reason)
        keys[reason] = make_session(user, **GUEST)  # nor does it fall back to the guest it once was
    User.objects.filter(username="inactive").update(is_active=False)
    User.objects.filter(username="gone").delete()
    User.objects.filter(username="new password").update(password="another hash")
    Session.objects.filter(pk=keys["expired"]).update(expire_date=timezone.now() - timedelta(seconds=1))
    keys["backend"] = make_session(make_user("other"), **{BACKEND_SESSION_KEY: "no.such.Backend"})
    assert claims_of_sessions(keys.values()) == {}


def test_guests_come_in_only_where_the_setting_allows_it(
    make_session: MakeSession, settings: Settings
) -> None:
    settings.GUESTS_ALLOWED = False
    assert claims_of_sessions([make_session(**GUEST)]) == {}


def test_a_session_that_was_tampered_with_is_nobodys(make_user: MakeUser, make_session: MakeSession) -> None:
    key = make_session(make_user("ada"))
    Session.objects.filter(pk=key).update(session_data="not:signed")
    assert claims_of_sessions([key]) == {}


def test_new_keys_log_nobody_out(make_user: MakeUser, make_session: MakeSession, settings: Settings) -> None:
    user = make_user("ada")
    session_key, claim = make_session(user), claim_of_user(user)
    settings.SECRET_KEY_FALLBACKS = [django_settings.SECRET_KEY]
    settings.SECRET_KEY = "the next key, long enough to be one"
    found = claims_of_sessions([session_key])
    assert found[session_key].identity == Identity(f"u{user.pk}", "ada")
    assert claims_that_no_longer_hold([claim, *found.values()]) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"is_active": False}, IDENTITY_REVOKED),
        ({"password": "another hash"}, PASSWORD_CHANGED),
        (None, IDENTITY_REVOKED),
    ],
)
def test_a_claim_holds_until_its_account_changes(
    make_user: MakeUser, change: dict[str, object] | None, code: int
) -> None:
    ada, other = make_user("ada"), make_user("other")
    claims = [claim_of_user(ada), claim_of_user(other), Claim(Identity("g1", "Grace", guest=True))]
    assert claims_that_no_longer_hold(claims) == {}
    if change is None:
        ada.delete()
    else:
        User.objects.filter(pk=ada.pk).update(**change)
    assert claims_that_no_longer_hold(claims) == {claims[0]: code}


def test_a_claim_of_a_session_holds_until_that_ends(make_user: MakeUser, make_session: MakeSession) -> None:
    ada = make_user("ada")
    keys = [make_session(ada), make_session(ada), make_session(**GUEST), make_session(**GUEST)]
    claims = claims_of_sessions(keys)
    assert claims_that_no_longer_hold(claims.values()) == {}
    Session.objects.filter(pk__in=keys[::2]).delete()
    assert claims_that_no_longer_hold(claims.values()) == dict.fromkeys(
        [claims[key] for key in keys[::2]], SESSION_ENDED
    )
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert claims_that_no_longer_hold(claims.values()).keys() == set(claims.values())


def test_many_sessions_take_two_queries_for_each_five_hundred(
    make_user: MakeUser, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    user = make_user("ada")
    claim = claim_of_user(user)
    with django_assert_num_queries(1):
        claims_that_no_longer_hold([claim] * 1_000)
    with django_assert_num_queries(3):
        claims_that_no_longer_hold([Claim(claim.identity, session=f"{number:032}") for number in range(501)])
    with django_assert_num_queries(3):
        claims_of_sessions(f"{number:032}" for number in range(1_001))
