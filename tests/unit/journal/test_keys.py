"""Keys that say when they were drawn."""

import time
from uuid import RFC_4122, UUID, uuid4

from app.journal.keys import drawn_at, new_key


def test_a_key_is_a_uuid_of_version_7_that_says_when_it_was_drawn() -> None:
    before = time.time_ns() // 1_000_000
    key = new_key()
    assert (key.version, key.variant) == (7, RFC_4122)
    drawn = drawn_at(key)
    assert drawn is not None and before <= drawn <= time.time_ns() // 1_000_000


def test_keys_of_one_moment_differ() -> None:
    assert len({new_key(1_700_000_000_000) for _ in range(1000)}) == 1000


def test_the_example_of_the_standard_is_read() -> None:
    assert drawn_at(UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")) == 1_645_557_742_000


def test_other_versions_say_nothing() -> None:
    assert drawn_at(uuid4()) is None
