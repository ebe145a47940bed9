import asyncio
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

import pytest
import pytest_asyncio
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from app.accounts.models import User
from app.database.thread import close_connections

MakeUser = Callable[..., User]
MakeSession = Callable[..., str]


@pytest.fixture
def make_user(transactional_db: None) -> MakeUser:
    """Accounts with a password hash but no password: hashing one takes a tenth of a second."""

    def make(name: str, **fields: Any) -> User:
        return User.objects.create(username=name, password=f"hash of {name}", **fields)

    return make


@pytest.fixture
def make_session(transactional_db: None) -> MakeSession:
    """A stored session of `user`, or with these `values`; its key."""

    def make(user: User | None = None, **values: Any) -> str:
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        if user is not None:
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.update(values)
        session.save()
        return str(session.session_key)

    return make


@pytest_asyncio.fixture
async def database_thread(transactional_db: None) -> AsyncIterator[None]:
    """Leaves no connection of the database thread behind for the next test."""
    yield
    await close_connections()


async def wait_until(condition: Callable[[], object]) -> None:
    """Until `condition` is true; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in a thread, or far inside
            await asyncio.sleep(0.002)
