"""The order of one stream against a model of ten lines, whatever the bus and the database do between."""

from hypothesis import given
from hypothesis import strategies as st

from app.realtime.stream import Reset, StreamEvent, StreamRead
from app.realtime.stream_order import EVENT_BYTES, NOWHERE, HeldBytes, StreamOrder
from tests.unit.realtime.streams.stored_streams import Database

ROOM = "room"
STEPS = st.one_of(
    st.tuples(st.just("store"), st.just(0)),
    st.tuples(st.just("bring"), st.integers(0, 40)),
    st.tuples(st.sampled_from(["ask", "answer"]), st.just(0)),
    st.tuples(st.just("purge"), st.integers(0, 40)),
    st.tuples(st.just("restore"), st.integers(0, 40)),
)


class Model:
    """What may leave an order: the next event of this life; after a reset, of what the database has then."""

    def __init__(self, read: StreamRead) -> None:
        self.start(read)

    def start(self, read: StreamRead) -> None:
        self.epoch, self.next = read.epoch, read.last_sequence + 1

    def take(self, ready: list[StreamEvent]) -> None:
        for event in ready:
            assert (event.epoch, event.sequence) == (self.epoch, self.next)
            self.next += 1


@given(st.lists(STEPS, max_size=80), st.integers(1, 50), st.integers(0, 10))
def test_events_leave_in_order_without_holes_and_once(
    steps: list[tuple[str, int]], limit: int, held: int
) -> None:
    database, said = Database(ROOM), [StreamEvent(7, 1, b"{}"), StreamEvent(7, 2, b"{}")]
    held_bytes = HeldBytes(limit=held * (EVENT_BYTES + 100))
    order = StreamOrder(held_bytes)
    asked = order.ask()
    answers = [database.look({ROOM: asked}, limit)[ROOM]]
    order.take(said[0])  # of another life, while nobody knows which one this is
    model = Model(answers[0])
    model.take(order.start(answers.pop()))

    def learn() -> None:
        read = answers.pop()
        before, learnt = order.sequence, order.learn(read)
        if isinstance(learnt, Reset):
            assert read.epoch != model.epoch or read.floor > before or read.last_sequence < before
            model.start(read)
        else:
            model.take(learnt)

    for step, number in steps:
        stored = database.streams[ROOM]
        match step:
            case "store":
                said.append(database.store(ROOM))
            case "bring":
                model.take(order.take(said[number % len(said)]))
            case "ask" if not answers:
                answers.append(database.look({ROOM: order.ask()}, limit)[ROOM])
            case "answer" if answers:
                learn()
            case "purge":
                database.purge(ROOM, min(number, stored.last))
            case "restore":
                stored.epoch, stored.last = stored.epoch + 10, min(number, stored.last)
                stored.floor = min(stored.floor, stored.last)
                stored.events = {
                    n: e._replace(epoch=stored.epoch) for n, e in stored.events.items() if n <= stored.last
                }
        assert 0 <= held_bytes.used <= held_bytes.limit
        assert model.next == order.sequence + 1
    if answers:
        learn()
    for _ in range(200):
        answers.append(database.look({ROOM: order.ask()}, limit)[ROOM])
        learn()
    assert (order.epoch, order.sequence) == (database.streams[ROOM].epoch, database.streams[ROOM].last)
    assert not order.behind
    assert held_bytes.used == 0


def test_an_order_asks_only_where_the_stream_is_until_it_knows() -> None:
    order = StreamOrder(HeldBytes())
    assert order.ask() == NOWHERE
    order.start(StreamRead(1, 0, 5, []))
    assert order.ask() == 5


def test_an_order_that_ended_is_nowhere_and_holds_nothing() -> None:
    held_bytes = HeldBytes()
    order = StreamOrder(held_bytes)
    order.start(StreamRead(1, 0, 5, []))
    order.take(StreamEvent(1, 7, b"{}"))
    assert held_bytes.used
    order.end()
    assert (order.started, order.behind, held_bytes.used) == (False, False, 0)
