import pytest
from django.test import Client
from django.urls import reverse

from app.accounts.models import User
from app.accounts.names import NAME_TAKEN

PASSWORD = "a long walk on the beach"

NEW = {"usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}


@pytest.fixture
def strasse() -> User:
    return User.objects.create(username="Straße", password="unusable")


@pytest.mark.django_db
def test_an_operator_makes_accounts_by_the_same_rule_for_names(admin_client: Client, strasse: User) -> None:
    add = reverse("admin:accounts_user_add")
    assert NAME_TAKEN in admin_client.post(add, NEW | {"username": "STRASSE"}).content.decode()
    assert "visible characters" in admin_client.post(add, NEW | {"username": "a\u200bda"}).content.decode()
    assert admin_client.post(add, NEW | {"username": "Grace"}).status_code == 302
    assert User.objects.get_by_natural_key("grace").check_password(PASSWORD)


@pytest.mark.django_db
def test_an_operator_renames_and_deactivates_an_account(admin_client: Client, strasse: User) -> None:
    ada = User.objects.create(username="Ada", password="unusable")
    change = reverse("admin:accounts_user_change", args=[ada.pk])
    assert admin_client.get(change).status_code == 200
    fields = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    assert NAME_TAKEN in admin_client.post(change, fields | {"username": "STRASSE"}).content.decode()
    assert admin_client.post(change, fields | {"username": "ADA L"}).status_code == 302
    ada.refresh_from_db()
    assert (ada.username, ada.name_key, ada.is_active) == ("ADA L", "ada l", False)
