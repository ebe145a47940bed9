"""What an operator sees of events that no stream took."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from app.journal.keys import new_key
from app.journal.models import OutboxEntry

pytestmark = pytest.mark.django_db
LIST = "admin:journal_outboxentry_changelist"


def entry(failure: str) -> OutboxEntry:
    return OutboxEntry.objects.create(
        stream="notes.a",
        kind="notes.noticed",
        key=new_key(),
        sender="u1",
        payload="{}",
        created_at=timezone.now(),
        failure=failure,
    )


def test_what_no_stream_took_is_listed_with_its_reason(admin_client: Client) -> None:
    entry("there is no such stream")
    entry("")
    page = admin_client.get(reverse(LIST)).content.decode()
    assert "there is no such stream" in page and "1 outbox entry" in page


def test_it_is_tried_again_or_deleted(admin_client: Client) -> None:
    again, gone = entry("there is no such stream"), entry("you may not write here")
    chosen = {"_selected_action": [again.pk]}
    admin_client.post(reverse(LIST), {"action": "try_again"} | chosen)
    again.refresh_from_db()
    assert again.failure == ""
    chosen = {"_selected_action": [gone.pk]}
    admin_client.post(reverse(LIST), {"action": "delete_selected", "post": "yes"} | chosen)
    assert list(OutboxEntry.objects.filter(stream="notes.a")) == [again]
