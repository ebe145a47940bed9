"""The project's settings, serving the tutorials' consumers."""

from app.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.integration.tutorials.asgi.application"
