"""What every broker promises, run on each implementation: in unit on memory, in integration on Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.realtime.broker import Broker

PATIENCE = 20.0
"""Seconds to wait for what must come; a busy machine takes its time."""


async def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `condition` holds; fail saying `what` did not happen."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.005)


class Ear:
    """A broker with everything it was told."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.deliveries: list[list[tuple[str, bytes]]] = []
        self.states: list[bool] = []

    @property
    def heard(self) -> list[tuple[str, bytes]]:
        return [message for delivery in self.deliveries for message in delivery]

    async def join(self, *groups: str) -> None:
        """Subscribe to all of `groups` at once and wait until that is done."""
        await asyncio.wait_for(asyncio.gather(*map(self.broker.subscribe, groups)), PATIENCE)

    def of(self, group: str) -> list[bytes]:
        return [data for heard, data in self.heard if heard == group]

    async def hears(self, *data: bytes, group: str = "g") -> None:
        """Wait until exactly `data` was heard of `group`, in this order."""
        await eventually(lambda: len(self.of(group)) >= len(data), f"{data!r} heard, not {self.of(group)!r}")
        assert self.of(group) == list(data)


@asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Ear]:
    ear = Ear(broker)
    broker.start(ear.deliveries.append, ear.states.append)
    try:
        yield ear
    finally:
        await broker.stop()


class BrokerContract:
    """A subclass has a fixture `make_broker`: a callable that makes one more broker on the same bus."""

    @pytest.fixture
    async def here(self, make_broker: Callable[[], Broker]) -> AsyncIterator[Ear]:
        async with listening(make_broker()) as ear:
            await eventually(lambda: ear.broker.connected, "the broker is connected")
            yield ear

    @pytest.fixture
    async def there(self, make_broker: Callable[[], Broker]) -> AsyncIterator[Ear]:
        async with listening(make_broker()) as ear:
            await eventually(lambda: ear.broker.connected, "the broker is connected")
            yield ear

    async def test_who_has_subscribed_hears_the_very_next_publish_of_another(
        self, here: Ear, there: Ear
    ) -> None:
        for n in range(50):
            await here.join(f"g{n}")
            there.broker.publish(f"g{n}", b"first")
            await here.hears(b"first", group=f"g{n}")

    async def test_a_publisher_hears_itself_like_everybody_else(self, here: Ear, there: Ear) -> None:
        await here.join("g")
        await there.join("g")
        assert here.broker.publish("g", b"mine")
        await here.hears(b"mine")
        await there.hears(b"mine")

    async def test_what_one_publisher_says_arrives_in_its_order_across_groups(
        self, here: Ear, there: Ear
    ) -> None:
        await here.join(*"abc")
        said = [("abc"[n % 3], b"%d" % n) for n in range(3_000)]
        for n, (group, data) in enumerate(said):
            there.broker.publish(group, data)
            if n % 100 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: len(here.heard) >= len(said), "everything is heard")
        assert here.heard == said

    async def test_nothing_is_delivered_inside_publish(self, here: Ear) -> None:
        await here.join("g")
        here.broker.publish("g", b"later")
        assert here.heard == []
        await here.hears(b"later")

    async def test_what_one_tick_publishes_is_delivered_as_one_list(self, here: Ear, there: Ear) -> None:
        await here.join("g")
        for n in range(20):
            there.broker.publish("g", b"%d" % n)
        await eventually(lambda: len(here.heard) == 20, "all twenty are heard")
        assert len(here.deliveries) == 1

    async def test_bytes_arrive_as_they_are(self, here: Ear, there: Ear) -> None:
        await here.join("räume:größe 1\r\n")
        data = bytes(range(256)) * 1024 + b"\r\n$-1\r\n"
        for payload in (data, b""):
            there.broker.publish("räume:größe 1\r\n", payload)
        await here.hears(data, b"", group="räume:größe 1\r\n")

    async def test_a_group_nobody_asked_for_is_not_delivered(self, here: Ear, there: Ear) -> None:
        await here.join("g")
        there.broker.publish("other", b"not for here")
        there.broker.publish("g", b"for here")
        await here.hears(b"for here")
        assert here.of("other") == []

    async def test_after_unsubscribe_nothing_more_is_delivered(self, here: Ear, there: Ear) -> None:
        await here.join("g", "end")
        there.broker.publish("g", b"on its way")
        await there.broker.flush(PATIENCE)
        here.broker.unsubscribe("g")
        already = here.of("g")
        there.broker.publish("g", b"too late")
        there.broker.publish("end", b"end")
        await here.hears(b"end", group="end")
        assert here.of("g") == already

    async def test_leaving_and_joining_again_in_one_tick_keeps_the_group(self, here: Ear, there: Ear) -> None:
        await here.join("g")
        here.broker.unsubscribe("g")
        await here.join("g")
        there.broker.publish("g", b"still here")
        await here.hears(b"still here")

    async def test_joining_and_leaving_again_keeps_nobody_waiting(self, here: Ear) -> None:
        joined = here.broker.subscribe("g")
        here.broker.unsubscribe("g")
        await asyncio.wait_for(joined, PATIENCE)

    async def test_joining_leaving_and_joining_in_three_ticks_ends_in_the_group(
        self, here: Ear, there: Ear
    ) -> None:
        joins = [here.broker.subscribe("g")]
        await asyncio.sleep(0)
        here.broker.unsubscribe("g")
        await asyncio.sleep(0)
        joins.append(here.broker.subscribe("g"))
        await asyncio.wait_for(asyncio.gather(*joins), PATIENCE)
        there.broker.publish("g", b"after all")
        await here.hears(b"after all")

    async def test_subscribing_twice_is_subscribing_once(self, here: Ear, there: Ear) -> None:
        await here.join("g", "g")
        await here.join("g")
        there.broker.publish("g", b"once")
        there.broker.publish("g", b"end")
        await here.hears(b"once", b"end")

    async def test_one_who_stops_waiting_for_a_group_disturbs_no_other_waiter(self, here: Ear) -> None:
        async def join() -> None:
            await here.broker.subscribe("g")

        impatient, patient = asyncio.create_task(join()), asyncio.create_task(join())
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait_for(patient, PATIENCE)

    async def test_thousands_of_groups_are_joined_at_once(self, here: Ear, there: Ear) -> None:
        groups = [f"room.{n}" for n in range(3_000)]
        await here.join(*groups)
        for group in groups:
            there.broker.publish(group, b"hello")
        await eventually(lambda: len(here.heard) >= len(groups), "every group is heard")
        assert [group for group, _ in here.heard] == groups

    async def test_flush_returns_when_the_bus_has_it_all(self, here: Ear, there: Ear) -> None:
        await here.broker.flush(PATIENCE)
        await here.join("g")
        for n in range(100):
            there.broker.publish("g", b"%d" % n)
        await there.broker.flush(PATIENCE)
        await here.hears(*[b"%d" % n for n in range(100)])

    async def test_its_state_is_told_once_and_stopping_leaves_the_bus(
        self, make_broker: Callable[[], Broker], there: Ear
    ) -> None:
        async with listening(make_broker()) as here:
            await eventually(lambda: here.broker.connected, "the broker is connected")
            await here.join("g")
            await there.join("g")
            here.broker.publish("g", b"last words")
        assert not here.broker.connected
        assert here.states == [True]
        await there.hears(b"last words")
        said = list(here.heard)
        there.broker.publish("g", b"anybody?")
        await there.hears(b"last words", b"anybody?")
        assert here.heard == said

    async def test_stopping_leaves_no_task_behind(self, make_broker: Callable[[], Broker]) -> None:
        before = asyncio.all_tasks()
        async with listening(make_broker()) as here:
            await here.join("g")
        assert asyncio.all_tasks() == before

    async def test_stopping_right_after_starting_leaves_no_task_behind(
        self, make_broker: Callable[[], Broker]
    ) -> None:
        before = asyncio.all_tasks()
        async with listening(make_broker()):
            pass
        assert asyncio.all_tasks() == before
