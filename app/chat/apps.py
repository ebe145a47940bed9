"""Chat as Django loads it."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "app.chat"

    def ready(self) -> None:
        from app.chat.kinds import register_kinds  # noqa: PLC0415  # models of the journal load first

        register_kinds()
