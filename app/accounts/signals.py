"""What any Django code does to accounts and sessions, the admin site and the shell too, is told to the nodes.

Only told: what became of whom is read from the database. `queryset.update` and SQL come by no signal; the
nodes' next round finds what they did.
"""

from collections.abc import Iterable
from typing import Any, Final

from django.contrib.sessions.models import Session
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from app.accounts import services
from app.accounts.events import account_subject, session_subject
from app.accounts.models import User

DECISIVE: Final = frozenset({"is_active", "password"})
"""Fields of an account that decide who may be connected. A log-in saves others."""


def connect_signals() -> None:
    """From here on; again is harmless."""
    post_save.connect(_account_saved, User, dispatch_uid="access of accounts")
    post_delete.connect(_account_deleted, User, dispatch_uid="access of accounts")
    post_delete.connect(_session_deleted, Session, dispatch_uid="access of sessions")


def _account_saved(
    instance: User, *, created: bool, raw: bool, update_fields: Iterable[str] | None, **_: Any
) -> None:
    decisive = update_fields is None or not DECISIVE.isdisjoint(update_fields)
    if decisive and not created and not raw:
        services.access_changed(account_subject(f"u{instance.pk}"))


def _account_deleted(instance: User, **_: Any) -> None:
    services.access_changed(account_subject(f"u{instance.pk}"))


def _session_deleted(instance: Session, **_: Any) -> None:
    if instance.expire_date > timezone.now():  # of the others nobody is in any more
        services.access_changed(session_subject(instance.session_key))
