"""This process as one node of many: its name, its hub, its broker, and the one way between them.

Local connections are served first and whatever the bus does; the bus only carries bytes to the others.
"""

import asyncio
import logging
import secrets
from asyncio import AbstractEventLoop, Future
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from weakref import WeakKeyDictionary

from django.conf import settings
from django.utils.module_loading import import_string

from app.observability import event_ages, metrics
from app.realtime import beacons, envelope
from app.realtime.beacons import Beacons
from app.realtime.broker import Broker
from app.realtime.connection import Subscriber
from app.realtime.delivery_account import DeliveryAccount
from app.realtime.delivery_questions import GROUP as DELIVERY_QUESTIONS
from app.realtime.delivery_questions import Deliveries, DeliveryQuestions
from app.realtime.envelope import Envelope, StreamEnvelope, UnknownEnvelope
from app.realtime.event import Delivery, EncodedEvent, Event, encode_event
from app.realtime.hub import Hub
from app.realtime.people import People
from app.realtime.stream import Position, StreamEvent
from app.realtime.streams import Streams
from app.realtime.traced import TracedAccount, TracedHub, publishing, receiving

if TYPE_CHECKING:  # its libraries are optional
    from app.observability.traces import Traces

logger = logging.getLogger(__name__)

EVERYONE: Final = "node.everyone"
"""A group of this node alone, never on the bus: all its connections."""

Listener = Callable[[bytes], None]
"""Takes one payload at a time, in order. Must not block, must not raise."""

Part = TypeVar("Part")


class BusChanged(Event):
    """Whether this node hears the others, for people to see."""

    name: ClassVar[str] = "node.bus_changed"
    delivery: ClassVar[Delivery] = Delivery.LATEST

    connected: bool


def bytes_at_once() -> int:
    """What one connection is sent at once at most: with more, the next event would find it over its budget of
    unsent bytes, and whoever reads slowly would come back again and again, and never arrive."""
    return int(settings.UNSENT_LIMIT_BYTES) // 2


class Node:
    """One node, bound to the event loop it is made on.

    `incarnation` is random and drawn when the node is made, so after any fork: a restarted node is another.
    """

    def __init__(self, name: str, broker: Broker, traces: "Traces | None" = None) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.incarnation = secrets.token_bytes(8)
        self.broker = broker
        self.traces = traces
        self.hub = TracedHub(loop.call_soon) if traces else Hub(loop.call_soon)
        self.streams = Streams(
            self.hub,
            broker.subscribe,
            self._release,
            publishing(traces, self._stream_to_bus) if traces else self._stream_to_bus,
            self.healthy,
            account=TracedAccount(loop.time, traces) if traces else DeliveryAccount(loop.time),
            catch_up_bytes=bytes_at_once(),
        )
        self._stream_event = receiving(traces, self.streams.arrived) if traces else self.streams.arrived
        self.ending: AsyncGenerator[None, None] | None = None
        self._parts: dict[Callable[[Node], Any], Any] = {}
        self._before_stop: list[Callable[[], Awaitable[None]]] = []
        self._counter = 0
        self._connections = 0
        self.people = People()
        self._listeners: dict[str, Listener] = {}
        self.beacons: Beacons | None = None
        self.questions = DeliveryQuestions(
            name,
            self.incarnation.hex(),
            self.streams.account,
            lambda group, payload: self._to_bus(group, Delivery.DROPPABLE, "", payload),
        )
        broker.start(self._from_bus, self._bus_changed)

    def start_beacons(self) -> Beacons:
        """Tell the other nodes of this one from now on, and listen to theirs: for who serves clients. Their
        questions are answered from then on, too."""
        if self.beacons is None:
            self.beacons = Beacons(
                self.name,
                self.incarnation.hex(),
                self.broker,
                lambda beacon: self.broker.publish(beacons.GROUP, beacon),
                partial(self.hub.members, EVERYONE),
            )
            self.broker.subscribe(beacons.GROUP)
            self.beacons.start()
            self.listen(DELIVERY_QUESTIONS, self.questions.take_question)
            self.listen(self.questions.answers, self.questions.take_answer)
        return self.beacons

    async def deliveries(self, stream: str, position: Position) -> Deliveries:
        """What became of the event there, on this node and on those whose beacons it hears."""
        peers = {} if self.beacons is None else self.beacons.peers()
        return await self.questions.ask(stream, position, peers)

    def healthy(self) -> bool:
        """Whether the bus is thought to bring everything to this node and to take everything from it."""
        if not self.broker.connected:
            return False
        return self.beacons is None or not self.beacons.why_unwell

    def part(self, make: Callable[["Node"], Part]) -> Part:
        """What `make` made of this node when it was first asked for: a feature's own part of the node."""
        if make not in self._parts:
            self._parts[make] = make(self)
        part: Part = self._parts[make]
        return part

    def before_stop(self, end: Callable[[], Awaitable[None]]) -> None:
        """Have `end` awaited when the node stops, while the bus is still there; the last one added first."""
        self._before_stop.append(end)

    async def stop(self) -> None:
        """Leave the bus. Local groups stay as they are."""
        if self.beacons is not None:
            self.beacons.stop()
        while self._before_stop:
            try:
                await self._before_stop.pop()()
            except Exception:
                logger.exception("a part of the node failed to end")
        await self.streams.stop()
        await self.broker.stop()
        if self.traces:
            await self.traces.stop()

    def publish(self, group: str, event: EncodedEvent) -> bool:
        """Deliver to this node's members of `group` at the end of the tick, and hand it to the bus.

        False: the bus' queue is full, other nodes will not get it (counted).
        """
        metrics.publishes.inc()
        self.hub.publish(group, event)
        return self._to_bus(group, event.delivery, event.key, event.payload)

    @property
    def connections_taken(self) -> int:
        """How many connections there have been."""
        return self._connections

    def next_connection_id(self) -> str:
        """A name for one connection, unique over all nodes: for logs and for people who ask."""
        self._connections += 1
        return f"{self.incarnation.hex()}-{self._connections:x}"

    def subscribe(self, group: str, subscriber: Subscriber) -> "Future[None]":
        """Attach `subscriber` at once. Done when other nodes' events arrive too, or the bus is known down."""
        self.hub.subscribe(group, subscriber)
        return self.broker.subscribe(group)

    def unsubscribe(self, group: str, subscriber: Subscriber) -> None:
        """Detach `subscriber`; the last one ends the node's subscription."""
        if self.hub.unsubscribe(group, subscriber) and group not in self.streams:
            self.broker.unsubscribe(group)

    def listen(self, group: str, listener: Listener) -> "Future[None]":
        """Give every payload of `group` to `listener`: at once, and in order across all such groups.

        For what is not a connection: nothing is framed, joined or put off to the end of the tick. A group
        has one listener. Done like `subscribe`.
        """
        if self._listeners.setdefault(group, listener) != listener:
            raise RuntimeError(f"somebody else listens to {group!r} on this node")
        return self.broker.subscribe(group)

    def end_listening(self, group: str) -> None:
        """Forget the group's listener."""
        if self._listeners.pop(group, None) is not None:
            self.broker.unsubscribe(group)

    def publish_bytes(self, group: str, payload: bytes) -> bool:
        """Give `payload` to the listeners of `group` on every node. False as in `publish`."""
        metrics.publishes.inc()
        listener = self._listeners.get(group)
        if listener is not None:
            _tell(listener, payload)
        return self._to_bus(group, Delivery.DROPPABLE, "", payload)

    def _to_bus(self, group: str, delivery: Delivery, key: str, payload: bytes) -> bool:
        self._counter += 1
        data = envelope.pack(Envelope(self.incarnation, self._counter, delivery, key, payload))
        return self.broker.publish(group, data)

    def _stream_to_bus(self, stream: str, event: StreamEvent) -> bool:
        metrics.publishes.inc()
        self._counter += 1
        return self.broker.publish(
            stream, envelope.pack(StreamEnvelope(self.incarnation, self._counter, event))
        )

    def _release(self, stream: str) -> None:
        """Nobody needs the stream any more; its group may still have members."""
        if not self.hub.members(stream):
            self.broker.unsubscribe(stream)

    def _from_bus(self, messages: list[tuple[str, bytes]]) -> None:
        heard = echoes = unknown = 0
        for group, data in messages:
            if group == beacons.GROUP:
                if self.beacons is not None:
                    _tell(self.beacons.take, data)
                continue
            try:
                received = envelope.unpack(data)
            except UnknownEnvelope:
                unknown += 1
                continue
            own = received.incarnation == self.incarnation
            if isinstance(received, StreamEnvelope):
                event_ages.BUS.reached(received.event.at, local=own)
            if own:
                echoes += 1
                continue
            heard += 1
            if isinstance(received, StreamEnvelope):
                self._stream_event(group, received.event)
                continue
            listener = self._listeners.get(group)
            if listener is None:
                self.hub.publish(group, EncodedEvent(received.payload, received.delivery, received.key))
            else:
                _tell(listener, received.payload)
        metrics.bus_received.labels("heard").inc(heard)
        metrics.bus_received.labels("echo").inc(echoes)
        metrics.bus_received.labels("unknown").inc(unknown)

    def _bus_changed(self, connected: bool) -> None:
        metrics.bus_connected.set(connected)
        self.streams.bus_changed(connected)
        if connected and self.beacons is not None:
            self.beacons.speak()
        self.hub.publish(EVERYONE, encode_event(BusChanged(connected=connected)))


def _tell(listener: Listener, payload: bytes) -> None:
    """A listener that fails costs nobody the messages that came in the same read."""
    try:
        listener(payload)
    except Exception:
        logger.exception("a listener failed to take %d bytes", len(payload))


_nodes: "WeakKeyDictionary[AbstractEventLoop, Node]" = WeakKeyDictionary()


def current_node() -> Node:
    """The node of the running loop; made when it is first asked for, so any ASGI server will do."""
    loop = asyncio.get_running_loop()
    node = _nodes.get(loop)
    if node is None:
        node = _nodes[loop] = make_node(_traces())
        node.ending = _end_with_loop(node)
        with suppress(StopIteration):
            node.ending.__anext__().send(None)  # runs to its `yield`, which waits for nothing
    return node


async def _end_with_loop(node: Node) -> AsyncGenerator[None, None]:
    # Whoever runs an event loop closes its asynchronous generators at the end: the one thing that a script,
    # a test and every ASGI server do alike, with lifespan or without.
    try:
        yield
    finally:
        if running_node() is node:
            await stop_node()


def running_node() -> Node | None:
    """The node of the running loop, if it has one."""
    return _nodes.get(asyncio.get_running_loop())


async def stop_node() -> None:
    """End the running loop's node, if it has one."""
    node = _nodes.pop(asyncio.get_running_loop(), None)
    if node is not None:
        await node.stop()


def make_node(traces: "Traces | None" = None) -> Node:
    """A node as the settings describe it."""
    broker: Broker = import_string(settings.REALTIME_BROKER)()
    return Node(settings.NODE_NAME, broker, traces)


def _traces() -> "Traces | None":
    if not settings.TRACES_RATIO:
        return None
    make: type[Traces] = import_string("app.observability.traces.Traces")
    return make(settings.NODE_NAME, settings.TRACES_RATIO)


@asynccontextmanager
async def passing_node() -> AsyncIterator[Node]:
    """The loop's node, or one for a moment: for whoever publishes without being one (a command, a shell)."""
    node = running_node()
    if node is not None:
        yield node
        return
    node = make_node()
    try:
        yield node
    finally:
        await node.stop()
