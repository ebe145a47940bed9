"""`check_broadcast`: do the nodes hear each other? For `helm test`, and for operators who want to know."""

import asyncio
import re
import secrets
import time
from argparse import ArgumentParser
from contextlib import AsyncExitStack
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from app.accounts import tickets
from app.accounts.tickets import Claim
from app.chat import services
from app.chat.broadcast_check import (
    Address,
    CheckFailed,
    Listener,
    NewTicket,
    NodeLeft,
    check_broadcast,
    find_nodes,
)
from app.realtime.identity import Identity


class Command(BaseCommand):
    help = (
        "Say something on each node, in a room that nobody sees, and demand that every other node hears it "
        "once and in order. Leaves nothing behind."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "addresses", nargs="+", metavar="ADDRESS:PORT", help="a name stands for all of its addresses"
        )
        parser.add_argument("--nodes", type=int, default=2, help="so many different nodes at least (2)")
        parser.add_argument("--wait", type=float, default=30.0, help="seconds to find them (30)")
        parser.add_argument("--seconds", type=float, default=10.0, help="seconds for all to arrive (10)")

    def handle(self, *args: Any, **options: Any) -> None:
        addresses = [_address(item) for item in options["addresses"]]
        if options["nodes"] < 1:
            raise CommandError(f"--nodes: expected 1 or more, got {options['nodes']}")
        host = settings.ALLOWED_HOSTS[0].lstrip(".")
        if host == "*":
            host = addresses[0][0]
        try:
            room = services.open_check_room()
            try:
                listeners = asyncio.run(_check(addresses, host, room.slug, options))
            finally:
                services.close_room(room.slug)
        except CheckFailed as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            raise CommandError(f"the database does not answer: {' '.join(str(error).split())}") from None
        except KeyboardInterrupt:
            raise CommandError("told to stop", returncode=130) from None
        self._show(listeners)

    def _show(self, listeners: list[Listener]) -> None:
        rows = [("node", "address", "heard from", "ms")]
        for one in listeners:
            others = ", ".join(other.node for other in listeners if other is not one) or "itself"
            rows.append((one.node, f"{one.address[0]}:{one.address[1]}", others, f"{one.slowest * 1000:.1f}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


async def _check(addresses: list[Address], host: str, room: str, options: dict[str, Any]) -> list[Listener]:
    deadline = time.monotonic() + options["wait"]
    while True:
        async with AsyncExitStack() as stack:
            listeners = await find_nodes(
                addresses,
                host,
                _new_ticket(),
                wanted=options["nodes"],
                seconds=max(0.0, deadline - time.monotonic()),
                stack=stack,
            )
            try:
                await check_broadcast(listeners, room, options["seconds"])
            except NodeLeft:
                if time.monotonic() > deadline:
                    raise
            else:
                return listeners


def _new_ticket() -> NewTicket:
    """Tickets for somebody of whom the database need not know: the signature is enough."""
    claim = Claim(Identity(f"g{secrets.token_hex(8)}", "broadcast check", guest=True))
    return lambda: tickets.issue(claim)


def _address(item: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", item)
    if match is None:
        raise CommandError(f"expected ADDRESS:PORT, got {item!r}")
    return match[1] or match[2], int(match[3])
