"""`python -m loadtest.bench.servers.people COUNT FILE`: accounts, each with a ticket and a session."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from app.accounts import tickets  # noqa: E402
from app.accounts.models import User  # noqa: E402
from app.accounts.names import name_key  # noqa: E402
from app.accounts.selectors import claim_of_user  # noqa: E402


def make_people(count: int) -> list[dict[str, str]]:
    """Store `count` accounts that are signed in; ticket and session key of each."""
    names = [f"person-{number}" for number in range(count)]
    password = make_password(None)
    User.objects.bulk_create(
        User(username=name, name_key=name_key(name), password=password) for name in names
    )
    people, sessions = [], []
    expires = timezone.now() + timedelta(days=1)
    for user in User.objects.filter(username__startswith="person-"):
        session_key = f"bench{user.pk:027}"
        data = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        sessions.append(
            Session(session_key=session_key, session_data=SessionStore().encode(data), expire_date=expires)
        )
        people.append({"ticket": tickets.issue(claim_of_user(user)), "session": session_key})
    Session.objects.bulk_create(sessions)
    return people


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    Path(sys.argv[2]).write_text(json.dumps(make_people(int(sys.argv[1]))))
