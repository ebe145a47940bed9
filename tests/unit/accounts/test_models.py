import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import aauthenticate, authenticate
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connections

from app.accounts.models import User

pytestmark = pytest.mark.django_db


def test_a_renamed_account_is_known_by_its_new_name_only() -> None:
    user = User.objects.create(username="Ada")
    user.username = "Grace"
    user.save(update_fields=["username"])
    assert User.objects.get_by_natural_key("GRACE") == user
    with pytest.raises(User.DoesNotExist):
        User.objects.get_by_natural_key("Ada")


def test_the_database_itself_refuses_a_name_that_reads_like_another() -> None:
    User.objects.create_user("Ada")
    with pytest.raises(IntegrityError):
        User.objects.create_user("ada")


def test_a_name_that_cannot_be_read_does_not_pass_validation() -> None:
    with pytest.raises(ValidationError, match=r"U\+200B"):
        User(username="a\u200bda", password="x").full_clean()


@pytest.mark.django_db(transaction=True)
async def test_accounts_are_found_by_any_spelling_from_a_coroutine() -> None:
    user = await User.objects.acreate_user("Ada", password="a long walk")
    assert await aauthenticate(username="ADA", password="a long walk") == user
    await sync_to_async(connections.close_all)()  # of the thread that coroutines use


def test_accounts_are_found_by_any_spelling() -> None:
    user = User.objects.create_user("Ada", password="a long walk")
    assert authenticate(username="\uff21da", password="a long walk") == user


def test_the_migrations_are_those_of_the_models() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
