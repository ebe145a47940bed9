"""What is done in rooms again and again."""

from typing import Any

from app.chat.models import Membership, Role, Room
from tests.unit.chat.client import Client


def give(room: str, person: str, role: Role, muted: bool = False) -> None:
    place = Room.objects.get(slug=room)
    Membership.objects.update_or_create(room=place, person=person, defaults={"role": role, "muted": muted})


async def join(one: Client, room: str = "lobby", position: Any = None) -> Any:
    return await one.command("chat.join_room", room=room, position=position)


async def resume(one: Client, *places: tuple[str, Any]) -> Any:
    reply = await one.command("chat.resume", rooms=[{"room": room, **place} for room, place in places])
    return reply.get("rooms", reply)


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["text"] for message in messages]
