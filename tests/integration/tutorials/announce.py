"""A management command that speaks to a group from outside any consumer."""

from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Say something in a room"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("room")
        parser.add_argument("text")

    def handle(self, *args: Any, room: str, text: str, **options: Any) -> None:
        layer = get_channel_layer()
        async_to_sync(layer.group_send)(f"room_{room}", {"type": "room.text", "text": text})
