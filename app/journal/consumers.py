"""The journal's background tasks, on the channel `journal`."""

from channels.consumer import SyncConsumer
from django.conf import settings

from app.journal import services


class JournalTasks(SyncConsumer):  # type: ignore[misc]  # untyped library
    """What nobody waits for. Each may be done twice without harm."""

    def purge_old_events(self, message: dict[str, str]) -> None:
        services.purge_old(settings.JOURNAL_KEEP_HOURS)
