"""The account that cluster tests rest on: it complains of what was promised, and of nothing else."""

import pytest

from tests.cluster.conversation import Conversation
from tests.cluster.talker import LEAVING, Heard, Said, Stay, Talker
from tests.visitor import Door

DOOR = Door("http://chat.example.test", ("127.0.0.1", 1))


def talker(name: str, *stays: Stay) -> Talker:
    one = Talker(name, DOOR)
    one.stays = list(stays)
    return one


def speaker(*, code: int | None = LEAVING, answered: bool = True) -> Talker:
    """Ada says 1, 2 and 3 at the seconds 10, 11 and 12, and leaves at 12.5."""
    said = [Said(number, 9.0 + number, 9.1 + number if answered else None) for number in (1, 2, 3)]
    heard = [Heard("ada", number, 9.1 + number) for number in (1, 2, 3)]
    return talker("ada", Stay("node-1", joined=0.0, left=12.5, code=code, said=said, heard=heard))


def listener(*numbers: int, joined: float = 0.0, left: float = 30.0) -> Talker:
    heard = [Heard("ada", number, 9.2 + number) for number in numbers]
    return talker("bob", Stay("node-2", joined, left, LEAVING, heard=heard))


def check(one: Talker, *others: Talker) -> int:
    return Conversation([one, *others]).check()


def test_who_heard_all_has_nothing_to_complain_of() -> None:
    assert check(listener(1, 2, 3), speaker()) == 3


@pytest.mark.parametrize("numbers", [(1, 3), (2, 3), (1, 2), ()])
def test_a_lost_message_is_found(numbers: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError, match="did not hear ada"):
        check(listener(*numbers), speaker())


@pytest.mark.parametrize("numbers", [(1, 2, 2, 3), (2, 1, 3), (1, 2, 3, 1)])
def test_a_message_that_comes_twice_or_too_late_is_found(numbers: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError, match="twice or out of order"):
        check(listener(*numbers), speaker())


@pytest.mark.parametrize(
    "absent",
    [
        pytest.param(listener(2, 3, joined=10.05), id="joined after it was said"),
        pytest.param(listener(1, 2, left=19.0), id="left before it could have come"),
    ],
)
def test_who_was_not_there_has_no_claim(absent: Talker) -> None:
    check(absent, listener(1, 2, 3), speaker())


def test_what_was_not_answered_need_not_be_heard() -> None:
    with pytest.raises(AssertionError, match="nobody had a claim"):
        check(listener(), speaker(answered=False))


def test_what_was_answered_is_heard_even_if_the_node_was_killed_then() -> None:
    check(listener(1, 2, 3), speaker(code=None))
    with pytest.raises(AssertionError, match=r"say \[3\]"):
        check(listener(1, 2), speaker(code=None))
