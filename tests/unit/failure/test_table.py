"""What a run of the failure tests shows: what it was played with, and numbers that say what they are."""

from datetime import UTC, datetime

from tests.failure.checker.judge import KINDS
from tests.failure.checker.table import Figure, brief, table

FIGURES: list[Figure] = [
    ("node_killed", "postgresql", "acknowledged", 12),
    ("node_killed", "postgresql", "deliveries", 34),
    *(("node_killed", "postgresql", kind, number) for number, kind in enumerate(KINDS)),
]
ROW = "| `node_killed` | postgresql | 1 | 12 | 34 | 0 / 1 / 2 / 3 / 4 | – | – | – | – |"


def test_a_terminal_shows_the_seeds_and_what_the_numbers_are() -> None:
    seeds, legend, *rows = brief(FIGURES, [8, 7, 8]).splitlines()
    assert seeds.startswith("Seeds: 7, 8;")
    assert " / ".join(KINDS) in legend
    assert rows[-1] == ROW


def test_a_page_shows_the_same() -> None:
    page = table(FIGURES, [("test_a", "seconds", "1.5")], [8, 7], datetime(2026, 1, 2, tzinfo=UTC))
    assert "Seeds: 7, 8." in page and " / ".join(KINDS) in page
    assert ROW in page and "| 1.5 | seconds | `test_a` |" in page
