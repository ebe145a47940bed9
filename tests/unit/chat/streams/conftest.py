"""The lobby, open and empty."""

import pytest

from app.chat.services import close_room, open_room
from tests.unit.chat.client import ADA


@pytest.fixture(autouse=True)
def lobby(node: None, transactional_db: None) -> None:
    close_room("lobby")  # the first test finds what the migrations opened
    open_room("lobby", "Lobby", opener=ADA)
