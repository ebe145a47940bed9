"""One node between its hub and a bus that the test plays."""

import asyncio
import logging
from asyncio import Future
from collections.abc import AsyncIterator
from functools import partial
from unittest.mock import patch

import msgspec
import pytest

from app.realtime import envelope
from app.realtime.broker import Broker, Deliver, StateChanged
from app.realtime.connection import Batch
from app.realtime.envelope import Envelope, StreamEnvelope
from app.realtime.event import Delivery, EncodedEvent
from app.realtime.node import EVERYONE, Node, current_node, passing_node, running_node, stop_node
from app.realtime.stream import StreamEvent


class PlayedBroker(Broker):
    """Notes what the node asks for; the test says what arrives."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.subscriptions: list[str] = []
        self.full = False
        self.stopped = False

    def start(self, deliver: Deliver, state_changed: StateChanged) -> None:
        self.deliver = deliver
        self.state_changed = state_changed

    async def stop(self) -> None:
        self.stopped = True

    @property
    def connected(self) -> bool:
        return True

    def publish(self, group: str, data: bytes) -> bool:
        if not self.full:
            self.published.append((group, data))
        return not self.full

    def subscribe(self, group: str) -> "Future[None]":
        if group not in self.subscriptions:
            self.subscriptions.append(group)
        done: Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def unsubscribe(self, group: str) -> None:
        self.subscriptions.remove(group)

    async def flush(self, timeout: float) -> None:
        await asyncio.sleep(0)


class Member:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def deliver(self, batch: Batch) -> None:
        self.texts += [event.payload.decode() for event in batch.events]


def event(text: str, delivery: Delivery = Delivery.DURABLE, key: str = "") -> EncodedEvent:
    return EncodedEvent(text.encode(), delivery, key)


def from_another_node(text: str) -> bytes:
    return envelope.pack(Envelope(b"anothers", 1, Delivery.DURABLE, "", text.encode()))


async def end_of_tick() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
async def bus() -> PlayedBroker:
    return PlayedBroker()


@pytest.fixture
async def node(bus: PlayedBroker) -> Node:
    return Node("node-1", bus)


async def test_a_publish_is_one_bus_message_whatever_the_size_of_the_group(
    node: Node, bus: PlayedBroker
) -> None:
    members = [Member() for _ in range(20)]
    for member in members:
        node.subscribe("room", member)
    assert node.publish("room", event("one", Delivery.LATEST, "key"))
    await end_of_tick()
    assert all(member.texts == ["one"] for member in members)
    ((group, data),) = bus.published
    assert group == "room"
    assert envelope.unpack(data) == Envelope(node.incarnation, 1, Delivery.LATEST, "key", b"one")


async def test_the_bus_is_told_of_the_first_to_come_and_the_last_to_leave(
    node: Node, bus: PlayedBroker
) -> None:
    ada, bob = Member(), Member()
    await node.subscribe("room", ada)
    await node.subscribe("room", bob)
    assert bus.subscriptions == ["room"]
    node.unsubscribe("room", ada)
    assert bus.subscriptions == ["room"]
    node.unsubscribe("room", bob)
    assert bus.subscriptions == []


async def test_what_others_publish_is_delivered_and_its_own_echo_is_not(
    node: Node, bus: PlayedBroker
) -> None:
    ada = Member()
    node.subscribe("room", ada)
    node.publish("room", event("mine"))
    bus.deliver([*bus.published, ("room", from_another_node("theirs"))])
    await end_of_tick()
    assert ada.texts == ["mine", "theirs"]


async def test_a_restarted_node_of_the_same_name_is_another_node(bus: PlayedBroker) -> None:
    before, after = Node("node-1", PlayedBroker()), Node("node-1", bus)
    ada = Member()
    after.subscribe("room", ada)
    last_words = envelope.pack(Envelope(before.incarnation, 1, Delivery.DURABLE, "", b"last words"))
    bus.deliver([("room", last_words)])
    await end_of_tick()
    assert ada.texts == ["last words"]


async def test_an_envelope_that_is_not_understood_costs_the_others_nothing(
    node: Node, bus: PlayedBroker
) -> None:
    ada = Member()
    node.subscribe("room", ada)
    newer = bytes([max(envelope.FORMATS) + 1]) + from_another_node("from the future")[1:]
    bus.deliver([("room", newer), ("room", b"noise"), ("room", from_another_node("theirs"))])
    await end_of_tick()
    assert ada.texts == ["theirs"]


async def test_with_the_bus_full_this_nodes_connections_still_hear(node: Node, bus: PlayedBroker) -> None:
    ada = Member()
    node.subscribe("room", ada)
    bus.full = True
    assert not node.publish("room", event("one"))
    await end_of_tick()
    assert ada.texts == ["one"]


async def test_everyone_is_told_when_the_bus_changes_and_nobody_elsewhere(
    node: Node, bus: PlayedBroker
) -> None:
    ada = Member()
    node.hub.subscribe(EVERYONE, ada)
    bus.state_changed(False)
    await end_of_tick()
    assert msgspec.json.decode(ada.texts[0]) == {"event": "node.bus_changed", "data": {"connected": False}}
    assert bus.published == []
    assert bus.subscriptions == []


async def test_an_event_of_a_stream_travels_with_its_place_and_its_echo_is_dropped(
    node: Node, bus: PlayedBroker
) -> None:
    stored = StreamEvent(81, 7, b'{"event":"test.said","data":{}}', "u12")
    node.streams.committed([("room", stored)])
    ((group, data),) = bus.published
    assert group == "room"
    assert envelope.unpack(data) == StreamEnvelope(node.incarnation, 1, stored)
    with patch.object(node, "_stream_event") as arrived:
        bus.deliver([*bus.published, ("room", envelope.pack(StreamEnvelope(b"anothers", 1, stored)))])
    arrived.assert_called_once_with("room", stored)


async def test_parts_of_a_node_end_before_it_leaves_the_bus_the_last_one_first(
    node: Node, bus: PlayedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def end(name: str) -> None:
        assert not bus.stopped
        ended.append(name)
        if name == "second":
            raise RuntimeError("a bug at the end")

    for name in ("first", "second"):
        node.before_stop(partial(end, name))
    await node.stop()
    assert ended == ["second", "first"]
    assert bus.stopped
    assert "a bug at the end" in caplog.text


async def test_a_part_is_made_of_a_node_when_it_is_first_asked_for(node: Node) -> None:
    class Bell:
        def __init__(self, node: Node) -> None:
            self.node = node

    bell = node.part(Bell)
    assert bell is node.part(Bell)
    assert bell.node is node
    assert Node("another", PlayedBroker()).part(Bell) is not bell


async def test_a_listener_hears_every_payload_at_once_and_in_order(node: Node, bus: PlayedBroker) -> None:
    heard: list[bytes] = []
    await node.listen("words", heard.append)
    node.publish_bytes("words", b"one")
    bus.deliver([*bus.published, ("words", from_another_node("two")), ("words", from_another_node("three"))])
    assert heard == [b"one", b"two", b"three"]
    node.end_listening("words")
    assert bus.subscriptions == []


async def test_a_group_has_one_listener(node: Node) -> None:
    heard: list[bytes] = []
    await node.listen("words", heard.append)
    await node.listen("words", heard.append)
    with pytest.raises(RuntimeError, match="somebody else listens to 'words'"):
        await node.listen("words", heard.remove)


async def test_a_listener_that_fails_costs_the_messages_of_the_same_read_nothing(
    node: Node, bus: PlayedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(payload: bytes) -> None:
        raise RuntimeError("broken listener")

    ada = Member()
    node.subscribe("room", ada)
    await node.listen("words", broken)
    with caplog.at_level(logging.ERROR):
        bus.deliver([("words", from_another_node("noise")), ("room", from_another_node("theirs"))])
    assert node.publish_bytes("words", b"more")
    await end_of_tick()
    assert ada.texts == ["theirs"]
    assert "broken listener" in caplog.text


async def test_connections_have_names_of_their_own(node: Node) -> None:
    other = Node("node-1", PlayedBroker())
    names = {node.next_connection_id(), node.next_connection_id(), other.next_connection_id()}
    assert len(names) == 3


@pytest.fixture
async def clean_loop() -> AsyncIterator[None]:
    yield
    await stop_node()


@pytest.mark.usefixtures("clean_loop")
async def test_a_loop_has_one_node_until_it_is_stopped() -> None:
    assert running_node() is None
    node = current_node()
    assert current_node() is running_node() is node
    async with passing_node() as passing:
        assert passing is node
    assert node.broker.connected
    await stop_node()
    assert running_node() is None
    assert not node.broker.connected
    await stop_node()


async def test_who_publishes_without_being_a_node_is_one_for_a_moment() -> None:
    async with passing_node() as node:
        assert node.broker.connected
        assert running_node() is None
    assert not node.broker.connected
