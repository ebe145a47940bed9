"""The application's settings and one app more: its migrations are in the package that PLANTED names."""

import os

from app.settings import *  # noqa: F403
from app.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.integration.database.planted"]
MIGRATION_MODULES = {"planted": os.environ["PLANTED"]}
