"""`python -m loadtest.bench.servers.rooms NAME…`: rooms that anybody may post to."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
django.setup()

from app.chat.services import open_room  # noqa: E402  # models load after Django

if __name__ == "__main__":
    for name in sys.argv[1:]:
        open_room(name, name)
