"""Channels' channel-layer contract on the node: stock consumers run on it unchanged.

One subscription per node and group, no task per channel, and never a wait for Redis on a connection's
behalf. A channel lives as long as the task that made it, however that task ends.
"""

import asyncio
import secrets
from asyncio import Future, Task
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

import msgspec
from channels.exceptions import ChannelFull, MessageTooLarge
from channels.layers import BaseChannelLayer, channel_layers
from channels_redis.serializers import registry

from app.observability import metrics
from app.realtime.broker import BusUnavailable
from app.realtime.local_channels import LocalChannel, LocalChannels
from app.realtime.node import Node, current_node, passing_node, running_node

Message = dict[str, Any]

PUBLISH_SECONDS: Final = 5.0
"""How long somebody who is not a node waits for the bus: longer than a planned failover takes."""


class _ForChannel(msgspec.Struct, tag="message", array_like=True):
    """From another node: a message for one of ours."""

    channel: str
    data: bytes


class _GroupAdd(msgspec.Struct, tag="group_add", array_like=True):
    """From another node: put one of ours into a group."""

    channel: str
    group: str


class _GroupDiscard(msgspec.Struct, tag="group_discard", array_like=True):
    """From another node: take one of ours out of a group."""

    channel: str
    group: str


_Letter = _ForChannel | _GroupAdd | _GroupDiscard
_letter_encoder = msgspec.msgpack.Encoder()
_letter_decoder: "msgspec.msgpack.Decoder[_Letter]" = msgspec.msgpack.Decoder(_Letter)


class FanoutChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    """Groups and process-specific channels over the node's bus; normal channels over the task queue.

    `capacity` counts the unread messages of each channel, `expiry` is their life in seconds. `prefix` keeps
    two layers of one node apart. `task_queue` is the alias of the layer that has the normal channels.
    """

    extensions: ClassVar = ["groups", "flush"]
    ChannelFull = ChannelFull
    MessageTooLarge = MessageTooLarge

    def __init__(
        self,
        *,
        prefix: str = "stock",
        expiry: float = 60,
        group_expiry: int = 86_400,
        capacity: int = 100,
        channel_capacity: dict[Any, int] | None = None,
        message_limit_bytes: int = 2 * 2**20,
        serializer_format: str = "msgpack",
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        task_queue: str = "tasks",
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        # The contract asks for the attribute. No live member is ever expired: a membership ends with its
        # channel, and a channel with its task, so there is nothing that time would have to clean up.
        self.group_expiry = group_expiry
        self.message_limit_bytes = message_limit_bytes
        self.task_queue = task_queue
        self._prefix = prefix
        self._serializer = registry.get_serializer(
            serializer_format, symmetric_encryption_keys=symmetric_encryption_keys
        )

    # --- Channels ---------------------------------------------------------------------------------------

    async def new_channel(self, prefix: str = "specific") -> str:
        """A new channel of this process. It is released when the task that asked for it ends.

        A task that did nothing else (under `async_to_sync`, `run_until_complete`) asked for somebody else:
        such a channel is released when nobody has received on it for as long as messages live.
        """
        node = current_node()
        name = f"{prefix}.{node.incarnation.hex()}!{secrets.token_hex(8)}"
        self.require_valid_channel_name(name)
        self._open(node, name)
        # Other nodes may write to the channel as soon as its name is out.
        await node.broker.subscribe(self._inbox(node.incarnation.hex()))
        return name

    async def send(self, channel: str, message: Message) -> None:
        """Send to one channel. Raises `ChannelFull` (a channel of this node, or the task queue's)."""
        self.require_valid_channel_name(channel)
        owner = _owner(channel)
        if owner is None:
            _require_dict(message)
            await channel_layers[self.task_queue].send(channel, message)
            return
        data = self._encode(message)
        node = running_node()
        if node is None or owner != node.incarnation.hex():
            await self._publish(self._inbox(owner), _letter_encoder.encode(_ForChannel(channel, data)))
        elif not self.local(node).offer(channel, data):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> Message:
        """The channel's next message. One that cannot be decoded is dropped and counted."""
        self.require_valid_channel_name(channel)
        owner = _owner(channel)
        if owner is None:
            message: Message = await channel_layers[self.task_queue].receive(channel)
            return message
        node = current_node()
        if owner != node.incarnation.hex():
            raise ValueError(f"only the node that made {channel!r} can receive on it; this is another one")
        local = self.local(node).get(channel) or self._open(node, channel)
        while True:
            data = await local.take()
            try:
                return self._decode(data)
            except Exception:  # each serializer fails in its own way
                metrics.channel_drops.labels("undecodable").inc()

    # --- Groups -----------------------------------------------------------------------------------------

    async def group_add(self, group: str, channel: str) -> None:
        """Put `channel` into `group`: done when the bus confirmed it, or is known to be down.

        A channel of another node is put in by that node, a moment later.
        """
        owner = self._member(group, channel)
        node = running_node()
        if node is None or owner != node.incarnation.hex():
            await self._publish(self._inbox(owner), _letter_encoder.encode(_GroupAdd(channel, group)))
            return
        confirmed = self._join(node, group, channel)
        if confirmed is not None:
            await confirmed

    async def group_discard(self, group: str, channel: str) -> None:
        """Take `channel` out of `group`, if it is in it."""
        owner = self._member(group, channel)
        node = running_node()
        if node is None or owner != node.incarnation.hex():
            await self._publish(self._inbox(owner), _letter_encoder.encode(_GroupDiscard(channel, group)))
        else:
            self._leave(node, group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        """Send to every channel of `group` on every node. A full channel misses it; that is counted.

        On a node this never waits for the bus. Anywhere else it raises `BusUnavailable` if the bus did not
        answer.
        """
        self.require_valid_group_name(group)
        await self._publish(self._group(group), self._encode(message))

    async def flush(self) -> None:
        """Forget this node's messages and memberships, and the task queue's messages. Channels stay."""
        node = running_node()
        if node is not None:
            for group in self.local(node).clear():
                node.end_listening(self._group(group))
        if self.task_queue in channel_layers:
            await channel_layers[self.task_queue].flush()

    # --- Messages ---------------------------------------------------------------------------------------

    def _encode(self, message: Message) -> bytes:
        _require_dict(message)
        data: bytes = self._serializer.serialize(message)
        if len(data) > self.message_limit_bytes:
            raise MessageTooLarge(
                f"the message has {len(data)} bytes encoded, expected {self.message_limit_bytes} or fewer"
            )
        return data

    def _decode(self, data: bytes) -> Message:
        message: Message = self._serializer.deserialize(data)
        return message

    async def _publish(self, group: str, data: bytes) -> None:
        node = running_node()
        if node is not None:
            if not node.publish_bytes(group, data):
                metrics.channel_drops.labels("bus_full").inc()
            # Lets receivers run: a loop of sends would otherwise fill their channels and starve the node.
            await asyncio.sleep(0)
            return
        async with passing_node() as node:
            if not node.publish_bytes(group, data):
                raise BusUnavailable("the message was not sent: the queue to the bus is full")
            await node.broker.flush(PUBLISH_SECONDS)

    # --- This node --------------------------------------------------------------------------------------

    def _group(self, group: str) -> str:
        return f"{self._prefix}.group.{group}"

    def _inbox(self, incarnation: str) -> str:
        return f"{self._prefix}.node.{incarnation}"

    def local(self, node: Node) -> LocalChannels:
        """The layer's channels and groups on `node`."""
        return node.part(self._begin)

    def _begin(self, node: Node) -> LocalChannels:
        node.listen(self._inbox(node.incarnation.hex()), partial(self._letter_received, node))
        return LocalChannels()

    def _open(self, node: Node, name: str) -> LocalChannel:
        # Consumers may die without a word (an exception, `ClientDisconnected`, cancellation), and Channels
        # has no call to give a channel back: the end of their task is the only thing that never fails.
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(partial(self._owner_ended, node, name))
        return self.local(node).open(name, self.get_capacity(name), self.expiry)

    def _owner_ended(self, node: Node, name: str, _task: "Task[Any]") -> None:
        channel = self.local(node).get(name)
        if channel is None:
            return
        if channel.used or channel.groups:
            self._release(node, name)
        else:
            self._look_again(node, name)

    def _look_again(self, node: Node, name: str) -> None:
        asyncio.get_running_loop().call_later(self.expiry, self._release_if_idle, node, name)

    def _release_if_idle(self, node: Node, name: str) -> None:
        channel = self.local(node).get(name)
        if channel is None:
            return
        if channel.used or channel.receivers:
            channel.used = False
            self._look_again(node, name)
        else:
            self._release(node, name)

    def _release(self, node: Node, name: str) -> None:
        for group in self.local(node).close(name):
            node.end_listening(self._group(group))

    def _join(self, node: Node, group: str, channel: str) -> "Future[None] | None":
        local = self.local(node).get(channel)
        if local is None:  # its task has ended meanwhile
            return None
        members = self.local(node).join(group, local)
        return node.listen(self._group(group), members.offer)

    def _leave(self, node: Node, group: str, channel: str) -> None:
        local = self.local(node).get(channel)
        if local is not None and self.local(node).leave(group, local):
            node.end_listening(self._group(group))

    def _letter_received(self, node: Node, data: bytes) -> None:
        try:
            letter = _letter_decoder.decode(data)
        except msgspec.DecodeError:  # another release's: two run side by side during a roll
            metrics.channel_drops.labels("undecodable").inc()
            return
        match letter:
            case _ForChannel():
                self.local(node).offer(letter.channel, letter.data)
            case _GroupAdd():
                self._join(node, letter.group, letter.channel)
            case _GroupDiscard():
                self._leave(node, letter.group, letter.channel)

    def _member(self, group: str, channel: str) -> str:
        """The owner of `channel`, which is to be a member of `group`."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        owner = _owner(channel)
        if owner is None:
            raise TypeError(f"a group's members are channels made by new_channel(), got {channel!r}")
        return owner


def _owner(channel: str) -> str | None:
    """The incarnation of the node that made `channel`; None for a normal channel."""
    remote, mark, _ = channel.partition("!")
    return remote.rpartition(".")[2] if mark else None


def _require_dict(message: Message) -> None:
    if not isinstance(message, dict):
        raise TypeError(f"a message is a dict, got {type(message).__name__}")
