"""What is read together is of one moment, whatever others commit while it is read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import msgspec
import pytest
from django.db import connection, connections
from django.utils import timezone

from app.chat import memberships, selectors
from app.chat.models import Membership, Message, Role, Room
from app.chat.room_reads import Budget, Question, RoomRead, read_rooms
from app.chat.services import close_room, open_room
from app.journal.keys import new_key
from tests.unit.chat.client import ADA, BOB

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def lobby(transactional_db: None) -> None:
    close_room("lobby")  # the first test finds what the migrations opened
    open_room("lobby", "Lobby", opener=ADA)


@contextmanager
def committed_behind_the_first_query(work: Callable[[], object]) -> Iterator[None]:
    """Somebody else does `work` as soon as the first SELECT inside is answered."""
    waiting = [work]

    def elsewhere() -> None:
        waiting.pop()()
        connections.close_all()

    def execute_then_work(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        answer = execute(sql, *arguments)
        if waiting and "SELECT" in sql:
            other = Thread(target=elsewhere)
            other.start()
            other.join()
        return answer

    with connection.execute_wrapper(execute_then_work):
        yield
    assert not waiting, "nothing was read"


def post() -> None:
    Message.objects.create(
        room=Room.objects.get(slug="lobby"),
        sequence=1,
        id=new_key(),
        sender=ADA.id,
        sender_name=ADA.name,
        sender_is_guest=False,
        node="node-1",
        text="meanwhile",
        sent_at=timezone.now(),
    )


def add_member() -> None:
    Membership.objects.create(room=Room.objects.get(slug="lobby"), person=BOB.id, role=Role.MEMBER)


def messages_of_a_snapshot() -> int:
    (read,) = read_rooms([Question("lobby", ADA.id, None, Budget())])
    assert isinstance(read, RoomRead)
    return len(msgspec.json.decode(read.messages))


READS = {
    "a snapshot": (post, messages_of_a_snapshot),
    "a page of history": (post, lambda: len(selectors.messages_before("lobby", ADA.id, 9, 5).messages)),
    "who belongs to a room": (add_member, lambda: memberships.members_of("lobby", ADA.id)[1] - 1),
}


@pytest.mark.parametrize("what", READS)
def test_what_is_committed_amid_a_read_is_in_none_of_its_answers(what: str) -> None:
    work, found = READS[what]
    with committed_behind_the_first_query(work):
        assert found() == 0
    assert found() == 1
