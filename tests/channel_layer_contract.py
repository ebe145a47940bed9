"""What Channels promises about a channel layer, for the fan-out layer on either broker.

A second node is a second event loop in a thread of its own: nothing but the bus is between the two.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.exceptions import ChannelFull, MessageTooLarge
from prometheus_client import REGISTRY

from app.realtime.channel_layer import FanoutChannelLayer
from app.realtime.node import current_node, stop_node

Result = TypeVar("Result")


class Elsewhere:
    """Another node: a loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stop_node()


class Clock:
    """The time that messages live by."""

    now = 1_000.0


def looks_at(layer: FanoutChannelLayer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the time between two looks at a channel without a task pass when the test says so."""
    next_look: list[Any] = []
    monkeypatch.setattr(layer, "_look_again", lambda *arguments: next_look.append(arguments))
    return lambda: layer._release_if_idle(*next_look.pop())


async def within(coroutine: Coroutine[Any, Any, Result]) -> Result:
    return await asyncio.wait_for(coroutine, 10)


async def received(layer: FanoutChannelLayer, channel: str, count: int) -> list[Any]:
    """The `n` of the next `count` messages."""
    return [(await within(layer.receive(channel)))["n"] for _ in range(count)]


def drops(reason: str) -> float:
    return REGISTRY.get_sample_value("carillon_channel_drops_total", {"reason": reason}) or 0


def say(n: int) -> dict[str, Any]:
    return {"type": "test.said", "n": n}


class ChannelLayerContract:
    """The tests; a subclass chooses the broker with its fixtures."""

    @pytest.fixture(autouse=True)
    async def _leave_the_bus(self) -> AsyncIterator[None]:
        yield
        await stop_node()

    @pytest.fixture
    def layer(self) -> FanoutChannelLayer:
        return FanoutChannelLayer(capacity=20)

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr("app.realtime.local_channels.monotonic", lambda: clock.now)
        return clock

    @pytest.fixture
    def elsewhere(self) -> Iterator[Elsewhere]:
        other = Elsewhere()
        yield other
        other.close()

    # --- Channels ---------------------------------------------------------------------------------------

    async def test_a_message_arrives_as_it_was_sent(self, layer: FanoutChannelLayer) -> None:
        message = {
            "type": "test.values",
            "values": [b"\x00\xff", "höher", 2**63 - 1, -(2**63), 0.1, [1, [2]], {"a": {"b": None}}, True],
        }
        channel = await layer.new_channel()
        await layer.send(channel, message)
        assert await within(layer.receive(channel)) == message

    async def test_messages_arrive_in_the_order_they_were_sent(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        for n in range(20):
            await layer.send(channel, say(n))
        assert await received(layer, channel, 20) == list(range(20))

    async def test_a_receiver_may_wait_before_anything_is_sent(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        receiver = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        await layer.send(channel, say(1))
        assert await asyncio.wait_for(receiver, 10) == say(1)

    async def test_each_message_goes_to_one_receiver(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        receivers = [asyncio.create_task(layer.receive(channel)) for _ in range(10)]
        for n in range(10):
            await layer.send(channel, say(n))
        messages = await asyncio.wait_for(asyncio.gather(*receivers), 10)
        assert sorted(message["n"] for message in messages) == list(range(10))

    async def test_a_cancelled_receiver_loses_no_message(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        receiver = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        await layer.send(channel, say(1))
        receiver.cancel()
        await asyncio.gather(receiver, return_exceptions=True)
        await layer.send(channel, say(2))
        assert await received(layer, channel, 2) == [1, 2]

    async def test_names_of_channels_never_repeat(self, layer: FanoutChannelLayer) -> None:
        names = set()
        for _ in range(100):
            random.seed(1)
            names.add(await layer.new_channel())
        assert len(names) == 100

    async def test_a_channel_takes_messages_from_another_node(
        self, layer: FanoutChannelLayer, elsewhere: Elsewhere
    ) -> None:
        channel = await layer.new_channel()
        await elsewhere.run(_as_a_node(self._send_all(layer, channel)))
        assert await received(layer, channel, 20) == list(range(20))

    async def test_only_the_node_that_made_a_channel_receives_on_it(
        self, layer: FanoutChannelLayer, elsewhere: Elsewhere
    ) -> None:
        channel = await elsewhere.run(layer.new_channel())
        with pytest.raises(ValueError, match="only the node that made"):
            await layer.receive(channel)

    @pytest.mark.parametrize("name", ["=+135!", "", "a b", "a" * 100, "a!b!c", 7, None])
    async def test_a_channel_name_that_is_not_one_is_refused(
        self, layer: FanoutChannelLayer, name: Any
    ) -> None:
        for call in (layer.send(name, say(1)), layer.receive(name), layer.group_add("g", name)):
            with pytest.raises(TypeError, match="Channel name must be"):
                await call

    @pytest.mark.parametrize("name", ["=+135", "", "a b", "a" * 100, "a!b", 7, None])
    async def test_a_group_name_that_is_not_one_is_refused(
        self, layer: FanoutChannelLayer, name: Any
    ) -> None:
        channel = await layer.new_channel()
        for call in (
            layer.group_send(name, say(1)),
            layer.group_add(name, channel),
            layer.group_discard(name, channel),
        ):
            with pytest.raises(TypeError, match="Group name must be"):
                await call

    async def test_a_message_that_is_not_a_dict_is_refused(self, layer: FanoutChannelLayer) -> None:
        message: Any = ["type", "test.said"]
        for call in (
            layer.send("worker", message),
            layer.send(await layer.new_channel(), message),
            layer.group_send("g", message),
        ):
            with pytest.raises(TypeError, match="a message is a dict, got list"):
                await call

    # --- Capacity, expiry, size -------------------------------------------------------------------------

    async def test_sending_to_a_full_channel_says_so(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        for n in range(20):
            await layer.send(channel, say(n))
        with pytest.raises(ChannelFull):
            await layer.send(channel, say(20))
        assert await received(layer, channel, 20) == list(range(20))
        await layer.send(channel, say(21))
        assert await received(layer, channel, 1) == [21]

    async def test_capacity_is_set_by_pattern(self) -> None:
        layer = FanoutChannelLayer(capacity=20, channel_capacity={"narrow.*": 1})
        narrow, wide = await layer.new_channel("narrow"), await layer.new_channel()
        for channel in (narrow, wide):
            await layer.send(channel, say(1))
        await layer.send(wide, say(2))
        with pytest.raises(ChannelFull):
            await layer.send(narrow, say(2))

    async def test_a_full_channel_costs_its_group_nothing(self, layer: FanoutChannelLayer) -> None:
        full, other = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("g", full)
        await layer.group_add("g", other)
        before = drops("full")
        for n in range(30):
            await layer.group_send("g", say(n))
            assert await received(layer, other, 1) == [n]
        assert await received(layer, full, 20) == list(range(20))
        assert drops("full") == before + 10

    async def test_a_message_that_waited_too_long_is_not_delivered(
        self, layer: FanoutChannelLayer, clock: Clock
    ) -> None:
        channel = await layer.new_channel()
        before = drops("expired")
        await layer.send(channel, say(1))
        clock.now += 30
        await layer.send(channel, say(2))
        clock.now += 31
        assert await received(layer, channel, 1) == [2]
        assert drops("expired") == before + 1

    async def test_messages_that_waited_too_long_make_room(
        self, layer: FanoutChannelLayer, clock: Clock
    ) -> None:
        channel = await layer.new_channel()
        for n in range(20):
            await layer.send(channel, say(n))
        clock.now += 61
        await layer.send(channel, say(20))
        assert await received(layer, channel, 1) == [20]

    async def test_a_message_of_one_mebibyte_passes(
        self, layer: FanoutChannelLayer, elsewhere: Elsewhere
    ) -> None:
        message = {"type": "test.large", "text": "x" * 2**20}
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.send(channel, message)
        await elsewhere.run(_as_a_node(layer.group_send("g", message)))
        assert await within(layer.receive(channel)) == message
        assert await within(layer.receive(channel)) == message

    async def test_a_message_over_the_limit_is_refused(self) -> None:
        layer = FanoutChannelLayer(message_limit_bytes=1_000)
        channel = await layer.new_channel()
        message = {"type": "test.large", "text": "x" * 1_000}
        with pytest.raises(MessageTooLarge, match="expected 1000 or fewer"):
            await layer.send(channel, message)
        with pytest.raises(layer.MessageTooLarge):
            await layer.group_send("g", message)

    async def test_what_one_receiver_changes_no_other_sees(self, layer: FanoutChannelLayer) -> None:
        first, second = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("g", first)
        await layer.group_add("g", second)
        message = {"type": "test.list", "list": [1]}
        await layer.group_send("g", message)
        message["list"] = []
        (await within(layer.receive(first)))["list"].append(2)
        assert await within(layer.receive(second)) == {"type": "test.list", "list": [1]}

    # --- Groups -----------------------------------------------------------------------------------------

    async def test_a_group_is_its_members(self, layer: FanoutChannelLayer) -> None:
        one, two, three = [await layer.new_channel("same") for _ in range(3)]
        for channel in (one, two, three):
            await layer.group_add("g", channel)
        await layer.group_discard("g", two)
        await layer.group_send("g", say(1))
        await layer.send(two, say(2))
        assert await received(layer, one, 1) == [1]
        assert await received(layer, three, 1) == [1]
        assert await received(layer, two, 1) == [2]

    async def test_being_added_twice_is_being_in_it_once(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.group_add("g", channel)
        await layer.group_send("g", say(1))
        await layer.group_send("g", say(2))
        assert await received(layer, channel, 2) == [1, 2]
        await layer.group_discard("g", channel)
        await layer.group_send("g", say(3))
        await layer.send(channel, say(4))
        assert await received(layer, channel, 1) == [4]

    async def test_discarding_a_stranger_changes_nothing(self, layer: FanoutChannelLayer) -> None:
        channel, stranger = await layer.new_channel(), await layer.new_channel()
        await layer.group_discard("nobody", channel)
        await layer.group_add("g", channel)
        await layer.group_discard("g", stranger)
        await layer.group_send("g", say(1))
        assert await received(layer, channel, 1) == [1]

    async def test_a_member_gets_what_was_sent_after_it_joined_and_before_it_left(
        self, layer: FanoutChannelLayer
    ) -> None:
        channel, witness = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("g", witness)
        await layer.group_send("g", say(1))
        await layer.group_add("g", channel)
        await layer.group_send("g", say(2))
        await layer.group_discard("g", channel)
        await layer.group_send("g", say(3))
        await layer.send(channel, say(4))
        assert await received(layer, channel, 2) == [2, 4]
        assert await received(layer, witness, 3) == [1, 2, 3]

    async def test_a_normal_channel_cannot_be_a_member(self, layer: FanoutChannelLayer) -> None:
        with pytest.raises(TypeError, match="got 'thumbnails'"):
            await layer.group_add("g", "thumbnails")

    async def test_a_group_reaches_the_members_on_every_node_once(
        self, layer: FanoutChannelLayer, elsewhere: Elsewhere
    ) -> None:
        here = await layer.new_channel()
        await layer.group_add("g", here)

        ready, result = asyncio.Event(), asyncio.Queue[list[Any]]()
        loop = asyncio.get_running_loop()

        async def member() -> None:
            there = await layer.new_channel()
            await layer.group_add("g", there)
            loop.call_soon_threadsafe(ready.set)
            numbers = await received(layer, there, 3)
            await layer.group_send("g", say(4))
            loop.call_soon_threadsafe(result.put_nowait, numbers)

        running = asyncio.create_task(elsewhere.run(member()))
        await within(ready.wait())
        for n in (1, 2, 3):
            await layer.group_send("g", say(n))
        assert await within(result.get()) == [1, 2, 3]
        await running
        assert await received(layer, here, 4) == [1, 2, 3, 4]

    @pytest.mark.parametrize("from_another_node", [False, True])
    async def test_what_one_sender_sends_arrives_in_order_whichever_way(
        self, layer: FanoutChannelLayer, elsewhere: Elsewhere, from_another_node: bool
    ) -> None:
        channel = await layer.new_channel()
        await layer.group_add("a", channel)
        await layer.group_add("b", channel)

        async def send_all() -> None:
            for n in range(0, 18, 3):
                await layer.group_send("a", say(n))
                await layer.send(channel, say(n + 1))
                await layer.group_send("b", say(n + 2))

        await (elsewhere.run(_as_a_node(send_all())) if from_another_node else send_all())
        assert await received(layer, channel, 18) == list(range(18))

    async def test_another_node_may_add_and_discard_a_channel(
        self, layer: FanoutChannelLayer, elsewhere: Elsewhere
    ) -> None:
        channel = await layer.new_channel()

        async def add_send_discard() -> None:
            await layer.group_add("g", channel)
            await layer.group_send("g", say(1))
            await layer.send(channel, say(2))

        await elsewhere.run(_as_a_node(add_send_discard()))
        first = await received(layer, channel, 1)
        # Its own node listens to the group from the moment it is asked to, so the first may be too early.
        if first == [1]:
            assert await received(layer, channel, 1) == [2]
        await layer.group_send("g", say(3))
        assert await received(layer, channel, 1) == [3]
        await elsewhere.run(_as_a_node(layer.group_discard("g", channel)))
        await elsewhere.run(_as_a_node(layer.send(channel, say(4))))
        assert await received(layer, channel, 1) == [4]
        await layer.group_send("g", say(5))
        await layer.send(channel, say(6))
        assert await received(layer, channel, 1) == [6]

    async def test_flush_forgets_messages_and_memberships(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.send(channel, say(1))
        await layer.flush()
        await layer.group_send("g", say(2))
        await layer.send(channel, say(3))
        assert await received(layer, channel, 1) == [3]

    async def test_the_contract_is_announced(self, layer: FanoutChannelLayer) -> None:
        assert layer.extensions == ["groups", "flush"]
        assert layer.group_expiry == 86_400

    # --- Encryption -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("serializer_format", ["msgpack", "json"])
    async def test_messages_are_encrypted_with_the_first_key_and_read_with_any(
        self, serializer_format: str, elsewhere: Elsewhere
    ) -> None:
        old = FanoutChannelLayer(serializer_format=serializer_format, symmetric_encryption_keys=["old"])
        new = FanoutChannelLayer(
            serializer_format=serializer_format, symmetric_encryption_keys=["new", "old"]
        )
        channel = await new.new_channel()
        await new.group_add("g", channel)
        await elsewhere.run(_as_a_node(old.group_send("g", say(1))))
        assert await received(new, channel, 1) == [1]

    async def test_a_message_that_cannot_be_read_is_dropped(self, elsewhere: Elsewhere) -> None:
        layer = FanoutChannelLayer(symmetric_encryption_keys=["right"])
        wrong = FanoutChannelLayer(symmetric_encryption_keys=["wrong"])
        channel = await layer.new_channel()
        before = drops("undecodable")
        await elsewhere.run(_as_a_node(wrong.send(channel, say(1))))
        await elsewhere.run(_as_a_node(layer.send(channel, say(2))))
        assert await received(layer, channel, 1) == [2]
        assert drops("undecodable") == before + 1

    # --- From outside -----------------------------------------------------------------------------------

    async def test_whoever_is_not_a_node_can_send(self, layer: FanoutChannelLayer) -> None:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)

        def script() -> None:
            async_to_sync(layer.group_send)("g", say(1))
            async_to_sync(layer.send)(channel, say(2))
            async_to_sync(layer.group_discard)("g", channel)
            async_to_sync(layer.group_send)("g", say(3))
            async_to_sync(layer.group_add)("h", channel)
            async_to_sync(layer.send)(channel, say(4))

        await asyncio.to_thread(script)
        assert await received(layer, channel, 3) == [1, 2, 4]
        await layer.group_send("h", say(5))
        assert await received(layer, channel, 1) == [5]

    # --- Nothing is left behind -------------------------------------------------------------------------

    async def test_a_channel_ends_with_its_task(self, layer: FanoutChannelLayer) -> None:
        async def consumer() -> str:
            channel = await layer.new_channel()
            await layer.group_add("g", channel)
            return channel

        channel = await asyncio.create_task(consumer())
        await within(until(lambda: len(layer.local(current_node())) == 0))
        before = drops("gone")
        await layer.send(channel, say(1))
        assert drops("gone") == before + 1

    async def test_a_channel_asked_for_by_a_call_of_its_own_stays_while_it_is_used(
        self, layer: FanoutChannelLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = looks_at(layer, monkeypatch)
        local = layer.local(current_node())

        def view() -> list[Any]:
            channel = async_to_sync(layer.new_channel)()
            async_to_sync(layer.group_add)("g", channel)
            async_to_sync(layer.send)(channel, say(1))
            async_to_sync(layer.group_send)("g", say(2))
            return [*async_to_sync(received)(layer, channel, 1), *async_to_sync(received)(layer, channel, 1)]

        assert await sync_to_async(view)() == [1, 2]
        look()
        assert len(local) == 1, "it was used since it was made"
        look()
        assert len(local) == 0
        assert local.groups() == []

    async def test_a_channel_somebody_waits_on_is_never_idle(
        self, layer: FanoutChannelLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = looks_at(layer, monkeypatch)
        channel = await asyncio.create_task(layer.new_channel())
        receiver = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        for _ in range(3):
            look()
        await layer.send(channel, say(1))
        assert await asyncio.wait_for(receiver, 10) == say(1)

    async def test_consumers_that_die_leave_nothing_behind(self, layer: FanoutChannelLayer) -> None:
        local = layer.local(current_node())

        async def consumer(n: int) -> None:
            channel = await layer.new_channel()
            await layer.group_add("everyone", channel)
            await layer.group_add(f"room-{n % 50}", channel)
            await layer.group_send(f"room-{n % 50}", say(n))
            if n % 2:
                raise ConnectionResetError
            while True:
                await layer.receive(channel)

        consumers = [asyncio.create_task(consumer(n)) for n in range(1_000)]
        await within(until(lambda: sum(task.done() for task in consumers) == 500))
        await within(until(lambda: local.members("everyone") == 500))
        assert local.members("room-0") == 20
        for task in consumers:
            task.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)
        await within(until(lambda: len(local) == 0))
        assert local.groups() == []
        assert await self.subscriptions() == 1, "the inbox is all that a node without channels listens to"

    async def subscriptions(self) -> int:
        """How many groups this test's node is subscribed to, as the bus sees it."""
        raise NotImplementedError

    async def _send_all(self, layer: FanoutChannelLayer, channel: str) -> None:
        for n in range(20):
            await layer.send(channel, say(n))


async def _as_a_node(coroutine: Coroutine[Any, Any, Result]) -> Result:
    current_node()
    return await coroutine


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0.01)
