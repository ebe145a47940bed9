"""Chat as Django loads it."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "app.chat"

    def ready(self) -> None:
        from app.chat.kinds import register_kinds  # noqa: PLC0415  # models of the journal load first
        from app.chat.signals import connect_signals  # noqa: PLC0415  # and so do those of chat

        register_kinds()
        connect_signals()
