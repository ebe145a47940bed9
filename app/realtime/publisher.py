"""The door for whoever has an event to publish. Encodes once; everything after is bytes."""

from app.realtime.broker import BusUnavailable
from app.realtime.event import Event, encode_event
from app.realtime.node import current_node, passing_node


def publish(group: str, event: Event) -> bool:
    """Publish to every connection of `group` on every node. For code on a node's event loop; never waits.

    False: this node's connections get it, but the bus' queue is full and other nodes will not.
    """
    return current_node().publish(group, encode_event(event))


async def publish_confirmed(group: str, event: Event, timeout: float = 5.0) -> None:
    """Publish from anywhere, and wait for the bus' answer: from a management command, a shell, a worker.

    Sync code wraps it in `async_to_sync`. Raises `BusUnavailable` if it did not reach the bus in
    `timeout` seconds.
    """
    async with passing_node() as node:
        if not node.publish(group, encode_event(event)):
            raise BusUnavailable("too much waits to be published already")
        await node.broker.flush(timeout)
