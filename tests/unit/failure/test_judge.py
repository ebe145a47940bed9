"""A record in which all is well, then one thing wrong with it at a time: the judge must see each."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.failure.checker import judge as judging
from tests.failure.checker.judge import DISORDERED, DOUBLED, LOST, SHOWN, WRONG, judge
from tests.failure.checker.record import (
    DELETED,
    EDITED,
    GONE,
    MEMBER_CHANGED,
    MEMBER_REMOVED,
    POSTED,
    Account,
    Answer,
    Asked,
    Fault,
    Message,
    Received,
    Row,
    Rules,
    Run,
    Stay,
    StreamTruth,
)
from tests.failure.checker.story import report

EPOCH = 77
ROOM = "room.lobby"
ROWS = [
    Row(1, "k1", "ada", POSTED),
    Row(2, "k2", "bob", POSTED),
    Row(3, "k3", "ada", EDITED, subject="k1"),
    Row(4, "k4", "bob", DELETED, subject="k2"),
    Row(5, "k5", "ada", POSTED),
]
MESSAGES = {
    "k1": Message(1, "ada", "one, edited", edited=True),
    "k2": Message(2, "bob", deleted=True),
    "k5": Message(5, "ada", "three"),
}


def asked(row: Row, text: str = "") -> Asked:
    one = Asked(
        ROOM, row.kind, row.key, row.sender, f"{row.sender}'s", float(row.sequence), text, row.subject
    )
    one.answers.append(Answer(row.sequence + 0.1, "node-1", EPOCH, row.sequence))
    return one


def received(row: Row) -> Received:
    return Received(row.sequence, row.kind, row.subject or row.key, row.sequence + 0.2)


def account(person: str, node: str = "node-1") -> Account:
    """Somebody who was there all the time."""
    return Account(
        f"{person}'s",
        person,
        asked=[asked(row) for row in ROWS if row.sender == person],
        stays=[Stay(ROOM, node, 0.0, EPOCH, 0, [received(row) for row in ROWS])],
        views={ROOM: dict(MESSAGES)},
    )


@pytest.fixture
def run() -> Run:
    """Ada and Bob wrote and read; Cyd came late, read two by paging, lost the connection and resumed."""
    cyd = Account("cyd's", "cyd", views={ROOM: dict(MESSAGES)})
    cyd.paged[ROOM] = {"k1": (1, 2.5), "k2": (2, 2.5)}
    cyd.stays = [
        Stay(ROOM, "node-2", 2.5, EPOCH, 2, [received(ROWS[2])], 3.5, "cut"),
        Stay(ROOM, "node-1", 3.6, EPOCH, 3, [received(row) for row in ROWS[3:]]),
    ]
    truth = StreamTruth(EPOCH, 0, 5, list(ROWS), dict(MESSAGES))
    return Run(1, [account("ada"), account("bob"), cyd], {ROOM: truth}, {ROOM: Rules()})


def kinds(run: Run) -> set[str]:
    return {problem.kind for problem in judge(run).problems}


def test_a_run_in_which_all_went_well_has_no_problem(run: Run) -> None:
    verdict = judge(run)
    assert verdict.problems == []
    assert (verdict.acknowledged, verdict.deliveries) == (5, 13)
    assert report(run, verdict).startswith("seed 1: 5 acknowledged; nothing wrong")


def skip_the_last(run: Run) -> None:
    run.accounts[2].stays[1].received.pop()
    run.accounts[2].views[ROOM].pop("k5")


def stop_before_an_edit(run: Run) -> None:
    run.accounts[2].stays = [Stay(ROOM, "node-2", 2.5, EPOCH, 2)]


def lose_a_row(run: Run) -> None:
    run.truth[ROOM].rows.pop()
    run.truth[ROOM].last_sequence = 4


def lose_a_row_in_the_middle(run: Run) -> None:
    del run.truth[ROOM].rows[1]


def lose_a_purged_message(run: Run) -> None:
    run.truth[ROOM].floor = 5
    run.truth[ROOM].rows.clear()
    del run.truth[ROOM].messages["k5"]


def lose_a_whole_stream(run: Run) -> None:
    run.accounts[0].asked.append(replace(asked(Row(1, "k9", "ada", POSTED)), stream="room.gone"))


def get_one_twice(run: Run) -> None:
    run.accounts[2].stays[1].received.append(received(ROWS[4]))


def get_one_again_after_resuming(run: Run) -> None:
    run.accounts[2].stays[1].received.insert(0, received(ROWS[2]))


def be_sent_back(run: Run) -> None:
    run.accounts[2].stays[1].after = 2
    run.accounts[2].stays[1].received.insert(0, received(ROWS[2]))


def store_a_key_twice(run: Run) -> None:
    run.truth[ROOM].rows.append(Row(6, "k5", "ada", POSTED))
    run.truth[ROOM].last_sequence = 6


def store_a_text_twice(run: Run) -> None:
    run.truth[ROOM].rows.append(Row(6, "k6", "ada", POSTED))
    run.truth[ROOM].last_sequence = 6
    run.truth[ROOM].messages["k6"] = replace(MESSAGES["k5"], sequence=6)


def answer_with_two_places(run: Run) -> None:
    run.accounts[0].asked[0].answers.append(Answer(9.0, "node-2", EPOCH, 6))


def swap_two(run: Run) -> None:
    first, second = run.accounts[2].stays[1].received
    run.accounts[2].stays[1].received = [second, first]


def leave_a_hole_open(run: Run) -> None:
    del run.accounts[0].stays[0].received[2]


def get_something_after_leaving(run: Run) -> None:
    run.accounts[0].strays.append((ROOM, received(ROWS[4])))


def show_a_stream_that_nobody_may_see(run: Run) -> None:
    run.accounts[0].strays.append(("room.secret", Received(1, POSTED, "k", 1.0)))


def go_on_sending_after_removal(run: Run) -> None:
    removed(run, "cyd")
    run.accounts[2].strays.append((ROOM, run.accounts[2].stays[1].received.pop()))
    del run.accounts[2].views[ROOM]["k5"]


def show_it_to_an_outsider(run: Run) -> None:
    run.rules[ROOM] = Rules(public=False, members=frozenset({"ada", "bob"}))


def show_a_page_to_an_outsider(run: Run) -> None:
    show_it_to_an_outsider(run)
    run.accounts[2].stays.clear()
    run.accounts[2].views.clear()


def removed(run: Run, person: str, **more: str) -> None:
    """Ada removed them with the fourth event."""
    run.truth[ROOM].rows[3] = Row(4, "k4", "ada", MEMBER_REMOVED, removes=person, **more)
    run.truth[ROOM].messages["k2"] = replace(MESSAGES["k2"], deleted=False, text="two")
    for one in run.accounts:
        one.asked = [asked for asked in one.asked if asked.key != "k4"]
        one.views[ROOM]["k2"] = run.truth[ROOM].messages["k2"]
        for stay in one.stays:
            stay.received = [
                Received(4, MEMBER_REMOVED, "", event.at) if event.sequence == 4 else event
                for event in stay.received
            ]


def go_on_showing_after_removal(run: Run) -> None:
    removed(run, "cyd")


def go_on_showing_after_a_ban(run: Run) -> None:
    removed(run, "")
    run.truth[ROOM].rows[3] = Row(4, "k4", "ada", MEMBER_CHANGED, person="cyd", role="banned")


def go_on_showing_after_a_demotion(run: Run) -> None:
    removed(run, "")
    run.truth[ROOM].rows[3] = Row(4, "k4", "ada", MEMBER_CHANGED, person="cyd")
    run.rules[ROOM] = Rules(public=False, members=frozenset({"ada", "bob", "cyd"}))


def write_after_removal(run: Run) -> None:
    removed(run, "ada")
    run.accounts[0].stays[0].received.pop()


def store_what_was_refused(run: Run) -> None:
    run.accounts[0].asked[0].answers[:] = [Answer(1.1, "node-1", error="not_allowed")]


def never_answer(run: Run) -> None:
    run.accounts[0].asked[0].answers[:] = [Answer(1.1, "node-1", error="unknown")]


def refuse_a_good_post(run: Run) -> None:
    lose_a_row(run)
    run.accounts[0].asked[-1].answers[:] = [Answer(5.1, "node-1", error="invalid_data")]


def store_elsewhere_than_answered(run: Run) -> None:
    run.accounts[0].asked[0].answers[:] = [Answer(1.1, "node-1", EPOCH, 4)]


def show_what_is_not_stored(run: Run) -> None:
    run.accounts[0].stays[0].received.append(Received(6, POSTED, "k6", 7.0))


def show_another_message_in_its_place(run: Run) -> None:
    run.accounts[0].stays[0].received[4] = Received(5, POSTED, "k9", 7.0)


def miss_an_edit(run: Run) -> None:
    run.accounts[1].views[ROOM]["k1"] = Message(1, "ada", "one")


def miss_a_deletion(run: Run) -> None:
    run.accounts[1].views[ROOM]["k2"] = Message(2, "bob", "two")


def keep_a_message_that_is_gone(run: Run) -> None:
    run.accounts[1].views[ROOM]["k7"] = Message(7, "bob", "from before the backup")


def stay_in_another_life(run: Run) -> None:
    run.truth[ROOM].epoch = EPOCH + 1


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (skip_the_last, LOST),
        (stop_before_an_edit, LOST),
        (lose_a_row, LOST),
        (lose_a_row_in_the_middle, LOST),
        (lose_a_purged_message, LOST),
        (lose_a_whole_stream, LOST),
        (get_one_twice, DOUBLED),
        (get_one_again_after_resuming, DOUBLED),
        (be_sent_back, DOUBLED),
        (store_a_key_twice, DOUBLED),
        (store_a_text_twice, DOUBLED),
        (answer_with_two_places, DOUBLED),
        (swap_two, DISORDERED),
        (leave_a_hole_open, DISORDERED),
        (get_something_after_leaving, DISORDERED),
        (show_a_stream_that_nobody_may_see, SHOWN),
        (go_on_sending_after_removal, SHOWN),
        (show_it_to_an_outsider, SHOWN),
        (show_a_page_to_an_outsider, SHOWN),
        (go_on_showing_after_removal, SHOWN),
        (go_on_showing_after_a_ban, SHOWN),
        (go_on_showing_after_a_demotion, SHOWN),
        (write_after_removal, WRONG),
        (store_what_was_refused, WRONG),
        (never_answer, WRONG),
        (refuse_a_good_post, WRONG),
        (store_elsewhere_than_answered, WRONG),
        (show_what_is_not_stored, WRONG),
        (show_another_message_in_its_place, WRONG),
        (miss_an_edit, WRONG),
        (miss_a_deletion, WRONG),
        (keep_a_message_that_is_gone, WRONG),
        (stay_in_another_life, WRONG),
    ],
)
def test_the_judge_sees_it(run: Run, harm: Callable[[Run], None], kind: str) -> None:
    harm(run)
    verdict = judge(run)
    assert kind in {problem.kind for problem in verdict.problems}
    assert verdict.count(kind) >= 1


def test_every_kind_of_problem_can_be_seen() -> None:
    assert set(judging.KINDS) == {LOST, DOUBLED, DISORDERED, SHOWN, WRONG}


def test_who_was_removed_has_a_right_to_what_came_before_and_to_nothing_later(run: Run) -> None:
    removed(run, "cyd")
    cyd = run.accounts[2]
    cyd.stays[1].received.pop()
    del cyd.views[ROOM]["k5"]
    assert judge(run).problems == []


def test_who_was_let_in_later_sees_everything_from_then_on(run: Run) -> None:
    run.rules[ROOM] = Rules(public=False, members=frozenset({"ada", "bob"}))
    run.truth[ROOM].rows[0] = Row(1, "k1", "ada", MEMBER_CHANGED, person="cyd", role="member")
    assert SHOWN not in {problem.kind for problem in judge(run).problems if problem.sequence > 1}


def test_a_deleted_message_is_equal_however_little_is_known_of_it(run: Run) -> None:
    run.accounts[2].views[ROOM]["k2"] = GONE
    assert judge(run).problems == []


def test_what_an_operator_gave_up_is_not_lost(run: Run) -> None:
    lose_a_row(run)
    run.truth[ROOM].epoch = EPOCH + 1
    del run.truth[ROOM].messages["k5"]
    for one in run.accounts:
        one.views[ROOM].pop("k5")
        one.stays.append(Stay(ROOM, "node-1", 9.0, EPOCH + 1, 4))
    assert kinds(run) == {LOST}
    run.forgiven = frozenset({"k5"})
    assert judge(run).problems == []


def test_what_was_purged_from_the_journal_is_stored_as_long_as_its_message_is(run: Run) -> None:
    run.truth[ROOM].floor = 5
    run.truth[ROOM].rows.clear()
    assert judge(run).problems == []


def test_the_same_place_in_two_lives_is_not_twice(run: Run) -> None:
    """An unknown outcome, a restored backup, and the same key again."""
    run.accounts[0].asked[-1].answers.insert(0, Answer(5.05, "node-2", EPOCH - 1, 5))
    assert judge(run).problems == []


def test_the_story_tells_who_asked_who_got_it_and_what_was_broken(run: Run) -> None:
    skip_the_last(run)
    run.accounts[0].asked[-1].text = "three"
    run.faults.append(Fault("node-2 killed", 4.9, 6.0))
    run.faults.append(Fault("long over", 900.0, 901.0))
    text = report(run, judge(run))
    assert "seed 1: 5 acknowledged; 1 lost" in text
    for words in (
        "lost: room.lobby 5 k5 never came to cyd's",
        "5.000 s  ada's (ada) asks for chat.message_posted 'three'",
        "5.100 s  node-1 answers: stored at 5",
        "5.200 s  bob's gets it on node-1",
        "4.900 s  BROKEN until 6.000: node-2 killed",
        "3.600 s  cyd's is on node-1 from 3 on",
        "3.500 s  cyd's leaves node-2 at 3: cut",
    ):
        assert words in text
    assert "long over" not in text
