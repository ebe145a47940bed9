"""`renew_epochs`: after a restored backup, tells every client to start over from what the backup has."""

from typing import Any

from django.core.management.base import BaseCommand

from app.journal.services import renew_epochs


class Command(BaseCommand):
    """Nodes may run meanwhile; they notice within seconds."""

    help = "Begin another life of every stream: to be run once after a backup was restored."

    def handle(self, *_args: Any, **_options: Any) -> None:
        self.stdout.write(f"{renew_epochs()} streams have begun another life")
