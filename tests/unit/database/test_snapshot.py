"""Reads that see one state."""

from threading import Thread

import pytest
from django.contrib.sessions.models import Session
from django.db import Error as DatabaseError
from django.db import connection, connections
from django.utils import timezone

from app.database.snapshot import one_snapshot

pytestmark = pytest.mark.django_db(transaction=True)


def add_one() -> None:
    key = f"key-{Session.objects.count()}"
    Session.objects.create(session_key=key, session_data="", expire_date=timezone.now())


def in_another_thread() -> None:
    def work() -> None:
        add_one()
        connections.close_all()

    thread = Thread(target=work)
    thread.start()
    thread.join()


def test_what_is_written_meanwhile_is_not_seen() -> None:
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        pytest.skip("SQLite's memory is shared by its connections: a reader stops writers there")
    add_one()
    with one_snapshot():
        assert Session.objects.count() == 1
        in_another_thread()
        assert Session.objects.count() == 1
    assert Session.objects.count() == 2


def test_after_a_failure_inside_the_connection_is_usable() -> None:
    with pytest.raises(DatabaseError), one_snapshot(), connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")
    add_one()
    assert Session.objects.count() == 1


def test_on_postgresql_nothing_can_be_written_inside() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite would let it")
    with pytest.raises(DatabaseError, match="read-only"), one_snapshot():
        add_one()
