"""Accounts as Django loads them."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "app.accounts"

    def ready(self) -> None:
        from app.accounts.kinds import register_kinds  # noqa: PLC0415  # models of the journal load first
        from app.accounts.signals import connect_signals  # noqa: PLC0415  # and so do those of accounts

        register_kinds()
        connect_signals()
