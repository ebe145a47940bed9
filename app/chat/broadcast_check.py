"""The proof that nodes hear each other: what is said on each must arrive on every other, once and in order.

Messages cross without a bus, too, through the database and later; who is present does not. So both are asked
for. A stranger's view: it speaks the wire protocol only, and knows neither the database nor the bus.
"""

import asyncio
import json
import socket
import time
from asyncio import Task
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from app.journal.keys import new_key

NUMBERS: Final = range(1, 6)
"""Of the messages said on each node: enough to tell an order."""

ANSWER_SECONDS: Final = 5.0
"""How long a node may take to open a connection, to greet, or to answer a command."""

BUSY_SECONDS: Final = 15.0
"""How long a node may put a command off."""

LOOK_SECONDS: Final = 0.5
"""Between two looks for nodes. Behind one address there may be several: each look may find another."""

Address = tuple[str, int]
NewTicket = Callable[[], str]


class CheckFailed(Exception):
    """The nodes do not do what they should; the text says in one line which of them, and what."""


class NodeLeft(CheckFailed):
    """A node was told to stop meanwhile, which is no fault: who is there has to be found anew."""


class Conversation:
    """What was said and who is there, and where that has not arrived yet."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.complete = asyncio.Event()
        self._said: dict[str, tuple[str, int, float]] = {}
        self._missing = {(node, speaker, n) for node in nodes for speaker in nodes for n in NUMBERS}
        self._unseen = {(node, other) for node in nodes for other in nodes}

    def say(self, node: str, number: int) -> str:
        """The key of the message that is said now."""
        key = str(new_key())
        self._said[key] = node, number, time.monotonic()
        return key

    def arrived(self, node: str, key: str) -> tuple[str, int, float] | None:
        """Where it was said, its number, and how many seconds ago; None: it is not one of these."""
        if key not in self._said:
            return None
        speaker, number, said_at = self._said[key]
        self._missing.discard((node, speaker, number))
        self._look()
        return speaker, number, time.monotonic() - said_at

    def present(self, node: str, others: Iterable[str]) -> None:
        """On `node` it is known that somebody is on these nodes."""
        self._unseen -= {(node, other) for other in others}
        self._look()

    def stranger(self, node: str, other: str) -> str:
        """What is wrong when `node` does not know of `other`'s people; empty: it does."""
        unseen = (node, other) in self._unseen
        return f"does not hear {other} (what is said there came out of the database)" if unseen else ""

    def _look(self) -> None:
        if not self._missing and not self._unseen:
            self.complete.set()


class Listener:
    """One connection to one node. `heard` has the numbers of messages, by the node they were said on."""

    def __init__(self, socket: ClientConnection, address: Address, hello: dict[str, Any]) -> None:
        self.node: str = hello["node"]
        self.address = address
        self.bus_connected: bool = hello["bus_connected"]
        self.heard: dict[str, list[int]] = {}
        self.slowest = 0.0
        self._socket = socket
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader: Task[None] | None = None

    def listen(self, conversation: Conversation) -> None:
        """Begin to hear; before that there are no answers either."""
        self._reader = asyncio.create_task(self._read(conversation))

    async def command(self, name: str, **data: Any) -> None:
        """Give a command and await its reply; who is told to come back later does, for `BUSY_SECONDS`.
        Raises `CheckFailed`."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            number = next(self._ids)
            answer = self._answers[number] = asyncio.get_running_loop().create_future()
            try:
                await self._socket.send(json.dumps({"id": number, "command": name, "data": data}))
                message = await asyncio.wait_for(answer, ANSWER_SECONDS)
            except TimeoutError:
                raise CheckFailed(f"{self.node} did not answer {name} within {ANSWER_SECONDS:g} s") from None
            except ConnectionClosed as error:
                left = error.rcvd is not None and error.rcvd.code == CloseCode.SERVICE_RESTART
                kind = NodeLeft if left else CheckFailed
                raise kind(f"{self.node} closed the connection: {error}") from None
            finally:
                del self._answers[number]
            refusal = message.get("error")
            if refusal is None:
                return
            retry_after = refusal.get("retry_after")
            if retry_after is None or time.monotonic() + retry_after > deadline:
                raise CheckFailed(f"{self.node} refused {name}: {refusal['code']}: {refusal['message']}")
            await asyncio.sleep(retry_after)

    async def close(self) -> None:
        await self._socket.close()
        if self._reader is not None:
            await self._reader

    async def _read(self, conversation: Conversation) -> None:
        try:
            while True:
                self._take(json.loads(await self._socket.recv()), conversation)
        except ConnectionClosed as error:
            conversation.complete.set()  # it will never be
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(error)

    def _take(self, message: dict[str, Any], conversation: Conversation) -> None:
        if message.get("id") is not None:
            self._look_for_people(message.get("reply", {}), conversation)
            answer = self._answers.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif message["event"].startswith("presence."):
            self._look_for_people(message["data"], conversation)
        elif message["event"] == "chat.message_posted":
            arrived = conversation.arrived(self.node, message["data"]["message_id"])
            if arrived is not None:
                speaker, number, seconds = arrived
                self.heard.setdefault(speaker, []).append(number)
                self.slowest = max(self.slowest, seconds)

    def _look_for_people(self, data: dict[str, Any], conversation: Conversation) -> None:
        for member in [*data.get("members", ()), *([data["member"]] if "member" in data else ())]:
            conversation.present(self.node, member["nodes"])


async def find_nodes(
    addresses: Sequence[Address],
    host: str,
    ticket: NewTicket,
    *,
    wanted: int,
    seconds: float,
    stack: AsyncExitStack,
) -> list[Listener]:
    """A connection to each node behind the addresses: `wanted` of them or more, within `seconds`.

    A name is resolved to all of its addresses. `host` is what the nodes take for their own name. The stack
    closes the connections. Raises `CheckFailed`.
    """
    found: dict[str, Listener] = {}
    deadline = time.monotonic() + seconds
    while True:
        problems: list[str] = []
        resolved = await _resolve(addresses, problems)
        opened = (_open(address, host, ticket()) for address in resolved)
        for outcome in await asyncio.gather(*opened, return_exceptions=True):
            if isinstance(outcome, CheckFailed):
                problems.append(str(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            elif outcome.node in found:
                await outcome.close()
            elif not outcome.bus_connected:
                problems.append(f"{outcome.node} is not connected to the bus")
                await outcome.close()
            else:
                found[outcome.node] = outcome
                stack.push_async_callback(outcome.close)
        if len(found) >= wanted:
            return [found[name] for name in sorted(found)]
        if time.monotonic() > deadline:
            names = ", ".join(sorted(found)) or "none"
            why = "".join(f"; {problem}" for problem in dict.fromkeys(problems))
            raise CheckFailed(
                f"found {len(found)} of {wanted} nodes within {round(seconds, 1):g} s ({names}){why}"
            )
        await asyncio.sleep(LOOK_SECONDS)


async def check_broadcast(listeners: Sequence[Listener], room: str, seconds: float) -> None:
    """Say something on each node into `room`: all of it must arrive on all of them within `seconds`.

    Raises `CheckFailed`, or `NodeLeft`.
    """
    conversation = Conversation([listener.node for listener in listeners])
    for listener in listeners:
        listener.listen(conversation)
        await listener.command("chat.join_room", room=room)
    for number in NUMBERS:
        for listener in listeners:
            key = conversation.say(listener.node, number)
            text = f"{number} of {len(NUMBERS)} from {listener.node}"
            await listener.command("chat.post_message", room=room, key=key, text=text)
    with suppress(TimeoutError):
        await asyncio.wait_for(conversation.complete.wait(), seconds)
    for listener in listeners:  # the answer comes behind whatever is on its way there for a second time
        await listener.command("ping")
    problems = [
        f"{listener.node} {problem}"
        for listener in listeners
        for speaker in listeners
        if (problem := _problem(speaker.node, listener.heard.get(speaker.node, [])))
        or (problem := conversation.stranger(listener.node, speaker.node))
    ]
    if problems:
        raise CheckFailed(f"within {seconds:g} s {'; '.join(problems)}")


def _problem(speaker: str, numbers: list[int]) -> str:
    """What is wrong with what was heard from `speaker`; empty: nothing."""
    if numbers == list(NUMBERS):
        return ""
    heard = " ".join(map(str, numbers)) or "nothing"
    if missing := set(NUMBERS) - set(numbers):
        return f"did not hear {speaker} ({len(missing)} of {len(NUMBERS)} messages are missing)"
    if len(numbers) > len(NUMBERS):
        return f"heard {speaker} twice ({heard})"
    return f"heard {speaker} in another order ({heard})"


async def _resolve(addresses: Sequence[Address], problems: list[str]) -> list[Address]:
    found: dict[Address, None] = {}
    for host, port in addresses:
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            problems.append(f"{host} cannot be resolved: {error.strerror}")
        else:
            found |= dict.fromkeys((str(info[4][0]), int(info[4][1])) for info in infos)
    return list(found)


async def _open(address: Address, host: str, ticket: str) -> Listener:
    subprotocols = [Subprotocol("carillon.v1"), Subprotocol(f"carillon.ticket.{ticket}")]
    where = f"{address[0]}:{address[1]}"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            client = await connect(
                f"ws://{host}/realtime/",
                host=address[0],
                port=address[1],
                subprotocols=subprotocols,
                compression=None,
                proxy=None,
                ping_interval=None,
                close_timeout=1,
            )
            hello = json.loads(await client.recv())
    except InvalidStatus as error:
        said = bytes(error.response.body or b"").decode("utf-8", "replace").strip()
        raise CheckFailed(f"{where} refused the upgrade: {error.response.status_code} {said}") from None
    except TimeoutError:
        raise CheckFailed(f"{where} did not greet within {ANSWER_SECONDS:g} s") from None
    except (OSError, WebSocketException) as error:
        raise CheckFailed(f"{where} cannot be reached: {error}") from None
    return Listener(client, address, hello["data"])
