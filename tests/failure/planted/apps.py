"""Plants the faults when the application is ready, before it serves anybody."""

from django.apps import AppConfig
from django.conf import settings


class Planted(AppConfig):
    """`PLANTED` of the settings."""

    name = "tests.failure.planted"
    label = "planted"

    def ready(self) -> None:
        from tests.failure.planted.faults import FAULTS

        for name in getattr(settings, "PLANTED"):  # noqa: B009  # app.settings has no such thing
            FAULTS[name]()
