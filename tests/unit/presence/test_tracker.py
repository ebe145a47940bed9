"""The tracker against a small world: nodes that live and die, a bus that loses what it likes."""

from collections.abc import Iterator
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.presence.events import Ask, Change, Member, Roster
from app.presence.tracker import GRACE_SECONDS, LEASE_SECONDS, Changes, RoomTracker
from app.realtime.identity import Identity

ADA = Identity("u1", "ada")
BOB = Identity("g2", "bob", guest=True)


def tracker(node: str, versions: Iterator[int] | None = None) -> RoomTracker:
    return RoomTracker(f"life of {node}", node, versions or count(1))


def settle(*trackers: RoomTracker, now: float = 0.0) -> None:
    """Carry everything to everybody until nobody has anything to say."""
    while outgoing := [message for one in trackers for message in one.take_outgoing()]:
        for message in outgoing:
            for one in trackers:
                one.hear(message, now)


def names(changes: list[Member]) -> list[str]:
    return [member.name for member in changes]


def test_several_connections_of_one_person_are_one_person() -> None:
    one = tracker("n1")
    one.enter(ADA, "c1")
    one.enter(ADA, "c2")
    assert names(one.take_changes(0.0).joined) == ["ada"]
    one.leave(ADA.id, "c1")
    assert one.take_changes(100.0) == Changes([], [], [], False)
    one.leave(ADA.id, "c2")
    one.take_changes(100.0)
    assert names(one.take_changes(100.0 + GRACE_SECONDS).left) == ["ada"]
    assert one.empty


def test_a_node_that_opens_a_room_learns_who_is_there_without_announcing_them() -> None:
    one, two = tracker("n1"), tracker("n2")
    one.enter(ADA, "c")
    settle(one)
    two.enter(BOB, "c")
    settle(one, two)
    changes = two.take_changes(0.0)
    assert changes.learnt
    assert sorted(names(two.members(10))) == ["ada", "bob"]


def test_the_first_person_on_a_node_is_announced_on_the_others() -> None:
    one, two = tracker("n1"), tracker("n2")
    one.enter(ADA, "c")
    settle(one, two)
    one.take_changes(0.0)
    two.enter(BOB, "c")
    settle(one, two)
    changes = one.take_changes(0.0)
    assert (names(changes.joined), changes.learnt) == (["bob"], False)


def test_whoever_comes_back_on_another_node_has_only_moved() -> None:
    one, two = tracker("n1"), tracker("n2")
    one.enter(ADA, "c")
    two.enter(BOB, "c")
    settle(one, two)
    two.take_changes(0.0)
    one.leave(ADA.id, "c")
    settle(one, two)
    assert two.take_changes(1.0) == Changes([], [], [], False)
    two.enter(ADA, "d")
    changes = two.take_changes(1.0 + GRACE_SECONDS / 2)
    assert changes == Changes([], [], [Member("u1", "ada", False, ("n2",))], False)
    assert two.take_changes(100.0) == Changes([], [], [], False)


def test_people_of_a_killed_node_leave_when_its_lease_is_over() -> None:
    one, two = tracker("n1"), tracker("n2")
    one.enter(ADA, "c")
    two.enter(BOB, "c")
    settle(one, two)
    two.expire(LEASE_SECONDS - 0.1)
    assert two.take_changes(LEASE_SECONDS - 0.1).left == []
    two.expire(LEASE_SECONDS)
    two.take_changes(LEASE_SECONDS)
    assert names(two.take_changes(LEASE_SECONDS + GRACE_SECONDS).left) == ["ada"]


def test_nobody_leaves_while_the_bus_is_away() -> None:
    one, two = tracker("n1"), tracker("n2")
    one.enter(ADA, "c")
    two.enter(BOB, "c")
    settle(one, two)
    two.take_changes(0.0)
    for now in range(1, 100):
        two.hold(float(now))
        two.expire(float(now))
    assert two.take_changes(100.0) == Changes([], [], [], False)
    assert Ask("life of n2") in two.take_outgoing()


def test_a_lost_change_is_noticed_at_the_next_beat() -> None:
    one, two = tracker("n1"), tracker("n2")
    two.enter(BOB, "c")
    settle(one, two)
    one.enter(ADA, "c")
    assert [type(message) for message in one.take_outgoing()] == [Change]
    two.hear(one.beat(), 1.0)
    assert two.take_outgoing() == [Ask("life of n2", of="life of n1")]
    two.hear(one.beat(), 1.0)
    settle(one, two)
    assert sorted(names([*two.take_changes(2.0).joined])) == ["ada", "bob"]


def test_a_change_that_follows_another_version_is_not_taken() -> None:
    one = tracker("n1")
    one.hear(Roster("other", "n2", 7, (ADA,)), 0.0)
    one.take_outgoing()
    one.hear(Change("other", after=8, version=9, entered=(BOB,), left=()), 0.0)
    assert names(one.take_changes(0.0).joined) == ["ada"]
    assert one.take_outgoing() == [Ask("life of n1", of="other")]


def test_what_happens_in_one_tick_is_one_message() -> None:
    one = tracker("n1")
    settle(one)
    one.enter(ADA, "a")
    one.enter(BOB, "b")
    one.leave(ADA.id, "a")
    [change] = one.take_outgoing()
    assert isinstance(change, Change)
    assert (change.entered, change.left) == ((BOB,), (ADA.id,))


NODES = 2
PEOPLE = [Identity("u1", "ada"), Identity("u2", "bob")]
nodes = st.integers(0, NODES - 1)


class World(RuleBasedStateMachine):
    """Nodes that die without a word, on a bus that loses what it likes and delays nothing."""

    @initialize()
    def build(self) -> None:
        self.now = 0.0
        self.lives = count()
        self.trackers = [self.new(node) for node in range(NODES)]
        self.here: list[set[tuple[str, int]]] = [set() for _ in range(NODES)]
        self.seen: list[dict[str, Member]] = [{} for _ in range(NODES)]

    def new(self, node: int) -> RoomTracker:
        return RoomTracker(f"life {next(self.lives)}", f"n{node}", count(1))

    @rule(node=nodes, person=st.sampled_from(PEOPLE), connection=st.integers(0, 1))
    def enter(self, node: int, person: Identity, connection: int) -> None:
        self.trackers[node].enter(person, connection)
        self.here[node].add((person.id, connection))

    @rule(node=nodes, person=st.sampled_from(PEOPLE), connection=st.integers(0, 1))
    def leave(self, node: int, person: Identity, connection: int) -> None:
        self.trackers[node].leave(person.id, connection)
        self.here[node].discard((person.id, connection))

    @rule(node=nodes, lost=st.booleans())
    def speak(self, node: int, lost: bool) -> None:
        for message in self.trackers[node].take_outgoing():
            for other in self.trackers if not lost else ():
                other.hear(message, self.now)

    @rule(node=nodes)
    def die_and_start_again(self, node: int) -> None:
        self.trackers[node] = self.new(node)
        self.here[node].clear()
        self.seen[node].clear()

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        """So long without a beat, then one that everybody hears."""
        self.now += seconds
        for one in self.trackers:
            one.expire(self.now)
            for other in self.trackers:
                other.hear(one.beat(), self.now)

    @rule()
    def heal(self) -> None:
        """Nothing is lost for longer than a lease and a grace: everybody sees the same, and it is true."""
        for _ in range(int(LEASE_SECONDS + GRACE_SECONDS) + 2):
            self.wait(1)
            for _ in range(3):  # a beat is followed by an ask, and that by an answer
                for node in range(NODES):
                    self.speak(node, lost=False)
            self.look()
        truth: dict[str, set[str]] = {}
        for node, people in enumerate(self.here):
            for person_id, _ in people:
                truth.setdefault(person_id, set()).add(f"n{node}")
        for seen in self.seen:
            assert {key: set(member.nodes) for key, member in seen.items()} == truth

    @invariant()
    def look(self) -> None:
        """What people are told adds up: nobody joins twice, leaves unseen, or is missing from the roster."""
        for one, seen in zip(self.trackers, self.seen, strict=True):
            changes = one.take_changes(self.now)
            for member in changes.joined:
                assert member.id not in seen
                seen[member.id] = member
            for member in changes.moved:
                assert seen[member.id] != member
                seen[member.id] = member
            for member in changes.left:
                del seen[member.id]
            assert one.count == len(seen)
            assert {member.id: member for member in one.members(100)} == seen


World.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestWorld = World.TestCase
