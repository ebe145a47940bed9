"""What an upgrade with a broken migration may cost: nothing, whatever helm is told to do about it."""

from typing import Final

import pytest

from tests.cluster.cluster import CommandFailed
from tests.cluster.conversation import Conversation
from tests.cluster.release import Image, Release
from tests.visitor import Door

GUESTS: Final = 3
GIVEN_UP_SECONDS: Final = 75.0
"""Longer than pods need to come up that are not waiting for anything."""


def check_failing_migration(release: Release, failing: Image, door: Door, option: str) -> None:
    """Upgrade with `helm upgrade <option>`: it fails, and nobody who talks meanwhile notices."""
    old = release.nodes()
    with Conversation.of(GUESTS, door) as conversation:
        broken = {**failing.values, "migrations": {"backoffLimit": 0}}
        with pytest.raises(CommandFailed):
            release.upgrade(option, more=broken, seconds=GIVEN_UP_SECONDS)
        conversation.all_hear_all()
        assert release.nodes() == old
    conversation.check()
    assert conversation.away() == []
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'chat_room'"
    found = release.query(columns)
    assert "title" in found and "half_way" not in found
    assert release.state == ("deployed" if option == "--atomic" else "failed")
