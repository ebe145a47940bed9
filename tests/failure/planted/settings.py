"""The application's settings with the faults that PLANTED names; without any, unchanged."""

import os

from app.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.failure.planted.apps.Planted"]  # noqa: F405
PLANTED = [name for name in os.environ.get("PLANTED", "").split(",") if name]
if "bad_bus" in PLANTED:
    REALTIME_BROKER = "tests.failure.planted.bad_bus.BadBus"
if "prepares_nothing" in PLANTED:
    DATABASE_PREPARED_STATEMENTS = False
if "has_no_patience" in PLANTED:
    JOURNAL_STORE_SECONDS = 0.3
