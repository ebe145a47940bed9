"""Accounts' background tasks, on the channel `accounts`."""

from channels.consumer import SyncConsumer

from app.accounts import services


class AccountTasks(SyncConsumer):  # type: ignore[misc]  # untyped library
    """What nobody waits for. Each may be done twice without harm."""

    def purge_expired_sessions(self, message: dict[str, str]) -> None:
        services.purge_expired_sessions()
