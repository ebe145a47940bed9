"""The hub against examples, and against a model of ten lines under random interleavings."""

import logging
from collections import defaultdict, deque
from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime import hub as hub_module
from app.realtime.connection import Batch
from app.realtime.event import Delivery, EncodedEvent
from app.realtime.hub import Hub


class Turns:
    """A loop made of turns: what is scheduled runs when the test says so."""

    def __init__(self) -> None:
        self.scheduled: deque[Callable[[], None]] = deque()

    def schedule(self, callback: Callable[[], None]) -> None:
        self.scheduled.append(callback)

    def run_one(self) -> None:
        for _ in range(len(self.scheduled)):
            self.scheduled.popleft()()

    def run_all(self) -> None:
        while self.scheduled:
            self.run_one()


class Member:
    """Remembers each batch it was given, as texts."""

    def __init__(self, on_deliver: Callable[[], object] | None = None) -> None:
        self.batches: list[list[str]] = []
        self.on_deliver = on_deliver

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    def deliver(self, batch: Batch) -> None:
        assert batch.events
        assert batch.joined == b"".join(event.frame for event in batch.events)
        self.batches.append([event.payload.decode() for event in batch.events])
        if self.on_deliver:
            self.on_deliver()


def event(text: str) -> EncodedEvent:
    return EncodedEvent(text.encode(), Delivery.DURABLE)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def hub(turns: Turns) -> Hub:
    return Hub(turns.schedule)


def test_what_one_tick_publishes_is_one_write_for_each_member(hub: Hub, turns: Turns) -> None:
    ada, bob = Member(), Member()
    hub.subscribe("room", ada)
    hub.subscribe("room", bob)
    for text in ("one", "two", "three"):
        hub.publish("room", event(text))
    assert ada.batches == []
    turns.run_all()
    assert ada.batches == bob.batches == [["one", "two", "three"]]


def test_members_of_one_tick_share_the_same_joined_bytes(hub: Hub, turns: Turns) -> None:
    batches: list[Batch] = []

    class Keeper:
        def deliver(self, batch: Batch) -> None:
            batches.append(batch)

    for _ in range(3):
        hub.subscribe("room", Keeper())
    hub.publish("room", event("one"))
    hub.publish("room", event("two"))
    turns.run_all()
    assert len(batches) == 3
    assert len({id(batch.joined) for batch in batches}) == 1


def test_an_event_is_told_how_many_it_was_written_to(hub: Hub, turns: Turns) -> None:
    class Closing(Member):
        def deliver(self, batch: Batch) -> bool:  # type: ignore[override]
            return False

    class Broken(Member):
        def deliver(self, batch: Batch) -> None:
            raise RuntimeError("a bug")

    told: list[tuple[str, int]] = []

    def said(text: str) -> EncodedEvent:
        return EncodedEvent(text.encode(), Delivery.DURABLE, written=lambda count: told.append((text, count)))

    gone, late = Member(), Member()
    for member in (Member(), Member(), Closing(), Broken(), gone):
        hub.subscribe("room", member)
    hub.publish("room", said("one"))
    hub.subscribe("room", late)
    hub.publish("room", said("two"))
    hub.unsubscribe("room", gone)
    turns.run_all()
    totals = {text: sum(count for told_text, count in told if told_text == text) for text in ("one", "two")}
    assert totals == {"one": 2, "two": 3}
    assert late.texts == ["two"]


def test_another_group_hears_nothing(hub: Hub, turns: Turns) -> None:
    ada, bob = Member(), Member()
    hub.subscribe("room", ada)
    hub.subscribe("other", bob)
    hub.publish("room", event("one"))
    hub.publish("nobody-is-here", event("two"))
    turns.run_all()
    assert ada.texts == ["one"]
    assert bob.texts == []


def test_who_joins_in_the_middle_of_a_tick_gets_what_comes_after(hub: Hub, turns: Turns) -> None:
    early, late = Member(), Member()
    hub.subscribe("room", early)
    hub.publish("room", event("before"))
    hub.subscribe("room", late)
    hub.publish("room", event("after"))
    turns.run_all()
    assert early.batches == [["before", "after"]]
    assert late.batches == [["after"]]


def test_who_leaves_before_the_end_of_the_tick_gets_nothing_more(hub: Hub, turns: Turns) -> None:
    ada, bob = Member(), Member()
    hub.subscribe("room", ada)
    hub.subscribe("room", bob)
    hub.publish("room", event("one"))
    hub.unsubscribe("room", bob)
    turns.run_all()
    assert ada.texts == ["one"]
    assert bob.texts == []


def test_who_is_finished_gets_what_was_published_at_once_and_nothing_more(hub: Hub, turns: Turns) -> None:
    ada, bob, carol = Member(), Member(), Member()
    hub.subscribe("room", ada)
    hub.subscribe("room", bob)
    hub.publish("room", event("one"))
    hub.subscribe("room", carol)
    hub.publish("room", event("two"))
    assert not hub.finish("room", [ada, carol])
    assert (ada.batches, bob.batches, carol.batches) == ([["one", "two"]], [], [["two"]])
    hub.publish("room", event("three"))
    turns.run_all()
    assert ada.texts == ["one", "two"]
    assert bob.texts == ["one", "two", "three"]
    assert hub.finish("room", [bob])
    assert not hub.finish("room", [bob])
    assert not hub.is_member("room", bob)


def test_who_leaves_and_comes_back_misses_what_was_published_before(hub: Hub, turns: Turns) -> None:
    ada, bob = Member(), Member()
    hub.subscribe("room", ada)
    hub.subscribe("room", bob)
    hub.publish("room", event("one"))
    hub.subscribe("room", Member())
    hub.unsubscribe("room", bob)
    hub.subscribe("room", bob)
    hub.publish("room", event("two"))
    turns.run_all()
    assert ada.texts == ["one", "two"]
    assert bob.texts == ["two"]


def test_a_group_made_again_under_the_same_name_starts_empty(hub: Hub, turns: Turns) -> None:
    ada = Member()
    hub.subscribe("room", ada)
    hub.publish("room", event("one"))
    hub.unsubscribe("room", ada)
    assert hub.idle()
    hub.subscribe("room", ada)
    turns.run_all()
    assert ada.texts == []


def test_subscribing_twice_changes_nothing(hub: Hub, turns: Turns) -> None:
    ada = Member()
    assert hub.subscribe("room", ada)
    hub.publish("room", event("one"))
    assert not hub.subscribe("room", ada)
    turns.run_all()
    assert ada.texts == ["one"]
    assert hub.members("room") == 1


def test_the_first_to_come_and_the_last_to_leave_are_told_so(hub: Hub) -> None:
    ada, bob = Member(), Member()
    assert hub.subscribe("room", ada)
    assert not hub.subscribe("room", bob)
    assert not hub.unsubscribe("room", ada)
    assert not hub.unsubscribe("room", ada)
    assert hub.unsubscribe("room", bob)
    assert not hub.unsubscribe("room", bob)
    assert hub.groups() == 0


def test_a_large_group_is_written_in_parts_and_in_order(
    hub: Hub, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "WRITES_PER_TICK", 2)
    members = [Member() for _ in range(5)]
    for member in members:
        hub.subscribe("room", member)
    hub.publish("room", event("one"))
    turns.run_one()
    assert [member.texts for member in members] == [["one"], ["one"], [], [], []]
    hub.publish("room", event("two"))
    hub.publish("room", event("three"))
    turns.run_all()
    assert all(member.texts == ["one", "two", "three"] for member in members)


def test_a_hub_that_falls_behind_joins_more_instead_of_collecting_jobs(
    hub: Hub, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "WRITES_PER_TICK", 1)
    members = [Member() for _ in range(10)]
    for member in members:
        hub.subscribe("room", member)
    for number in range(10):
        hub.publish("room", event(str(number)))
        turns.run_one()
    turns.run_all()
    for member in members:
        assert member.texts == [str(number) for number in range(10)]
        assert len(member.batches) <= 3


def test_a_small_group_is_served_after_one_part_of_a_large_one(
    hub: Hub, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "WRITES_PER_TICK", 4)
    small, large = Member(), [Member() for _ in range(7)]
    for member in large:
        hub.subscribe("large", member)
    hub.subscribe("small", small)
    hub.publish("large", event("one"))
    hub.publish("small", event("one"))
    turns.run_one()
    turns.run_one()
    assert small.texts == ["one"]


def test_a_member_that_fails_costs_nobody_else_anything(
    hub: Hub, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("broken member")

    before, broken, after = Member(), Member(fail), Member()
    for member in (before, broken, after):
        hub.subscribe("room", member)
    hub.publish("room", event("one"))
    with caplog.at_level(logging.ERROR):
        turns.run_all()
    hub.publish("room", event("two"))
    turns.run_all()
    assert before.texts == after.texts == ["one", "two"]
    assert "broken member" in caplog.text


def test_a_member_may_leave_and_others_with_it_while_it_is_written_to(hub: Hub, turns: Turns) -> None:
    last = Member()

    def everybody_leaves() -> None:
        hub.unsubscribe("room", first)
        hub.unsubscribe("room", last)

    first = Member(everybody_leaves)
    hub.subscribe("room", first)
    hub.subscribe("room", last)
    hub.publish("room", event("one"))
    turns.run_all()
    assert first.texts == ["one"]
    assert last.texts == []
    assert hub.groups() == 0
    assert hub.idle()


def test_what_a_member_publishes_while_it_is_written_to_arrives_too(hub: Hub, turns: Turns) -> None:
    answers = [event("answer")]

    def answer_once() -> None:
        if answers:
            hub.publish("room", answers.pop())

    ada = Member(answer_once)
    hub.subscribe("room", ada)
    hub.publish("room", event("question"))
    turns.run_all()
    assert ada.batches == [["question"], ["answer"]]


MEMBERS, GROUPS = range(4), ("red", "blue")
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe", "finish"]),
        st.sampled_from(GROUPS),
        st.sampled_from(MEMBERS),
    ),
    st.tuples(st.just("publish"), st.sampled_from(GROUPS), st.none()),
    st.tuples(st.just("turn"), st.none(), st.none()),
)


class Model:
    """What each member is owed: everything published to its group since it joined, in order, once."""

    def __init__(self) -> None:
        self.owed: dict[tuple[str, int], deque[str]] = {}

    def publish(self, group: str, text: str) -> None:
        for (name, _), owed in self.owed.items():
            if name == group:
                owed.append(text)

    def take(self, member: int, text: str) -> None:
        group = text.partition(" ")[0]
        assert (group, member) in self.owed, f"{member} is not in {group} and got {text!r}"
        assert self.owed[group, member].popleft() == text


@given(st.lists(STEPS, max_size=60), st.integers(1, 5))
def test_every_member_gets_exactly_what_was_published_while_it_was_one(
    steps: list[tuple[str, str, int]], writes_per_tick: int
) -> None:
    turns, model = Turns(), Model()
    hub = Hub(turns.schedule)

    class Checked:
        def __init__(self, number: int) -> None:
            self.number = number

        def deliver(self, batch: Batch) -> None:
            assert batch.events
            for delivered in batch.events:
                model.take(self.number, delivered.payload.decode())

    members = [Checked(number) for number in MEMBERS]
    published: dict[str, int] = defaultdict(int)
    with (
        patch.object(hub_module, "WRITES_PER_TICK", writes_per_tick),
        patch.object(hub_module.logger, "exception", side_effect=AssertionError),
    ):
        for step, group, number in steps:
            match step:
                case "subscribe":
                    hub.subscribe(group, members[number])
                    model.owed.setdefault((group, number), deque())
                case "unsubscribe":
                    hub.unsubscribe(group, members[number])
                    model.owed.pop((group, number), None)
                case "finish":
                    hub.finish(group, [members[number]])
                    assert not model.owed.pop((group, number), None), "it left without what was published"
                case "publish":
                    published[group] += 1
                    text = f"{group} {published[group]}"
                    hub.publish(group, event(text))
                    model.publish(group, text)
                case "turn":
                    turns.run_one()
            assert {name: hub.members(name) for name in GROUPS} == {
                name: sum(1 for owed_group, _ in model.owed if owed_group == name) for name in GROUPS
            }
        turns.run_all()
        assert not any(model.owed.values()), "somebody did not get everything"
        for group, number in list(model.owed):
            hub.unsubscribe(group, members[number])
        assert hub.groups() == 0
        assert hub.idle()
