"""The project's settings, with tasks that do and spoil what they are told."""

from app.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.integration.tasks.asgi.application"
TASK_SCHEDULE = [
    {"channel": "chores", "type": "note.schedule", "seconds": 3600.0},
    {"channel": "idle", "type": "note.schedule", "seconds": 2.0},
]
