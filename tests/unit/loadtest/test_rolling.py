"""What the figure of a rolling restart makes of what was noted."""

import pytest

from loadtest.bench.figures.rolling import busiest


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(9.0, "node-1", 200.0), (9.5, "node-1", 100.0), (10.5, "node-1", 50.0)], 0.03),
        ([(10.5, "node-1", 300.0)], 0.01),  # it said nothing before: what it said next
        ([], 0.0),
    ],
    ids=["what it said last before that second", "what it said first", "nothing"],
)
def test_arrivals_of_a_node_are_compared_with_what_it_said(
    told: list[tuple[float, str, float]], expected: float
) -> None:
    arrivals = [(10.1, "node-1"), (10.2, "node-1"), (10.9, "node-1"), (11.0, "node-1"), (10.5, "node-2")]
    assert busiest(arrivals, told) == (3, expected)
