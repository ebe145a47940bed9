"""The table of a run."""

from datetime import date

from loadtest.bench.report import RATIO, Row, in_order, markdown, ratios

SLOW = Row("fanout", "ours ÷ theirs", RATIO, [0.7, 0.8, 2.0], [0.9], [0.95], at_least=0.85)
CHEAP = Row("paced", "CPU per delivery", "µs", [7.0, 9.0, 7.5], at_most=8.0)


def test_a_figure_is_the_median_and_its_bar_is_judged_by_it() -> None:
    assert (SLOW.median, SLOW.bar) == (0.8, "≥ 0.85 missed")
    assert (CHEAP.median, CHEAP.bar) == (7.5, "≤ 8 reached")


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_ratios_come_first() -> None:
    assert in_order([CHEAP, SLOW]) == [SLOW, CHEAP]


def test_the_kept_table_has_noise_and_the_command_that_repeats_each_figure() -> None:
    page = markdown([CHEAP, SLOW], ["2 cores"], date(2026, 1, 2), "abc1234")
    assert "Benchmark of 2026-01-02" in page
    assert "abc1234" in page
    assert "- 2 cores" in page
    first, second = page.splitlines()[-2:]
    assert first.startswith("| ours ÷ theirs | 0.80 × | 0.70 – 2.00 (3) | 0.90 | 0.95 | ≥ 0.85 missed |")
    assert first.endswith("| `make bench ONLY=fanout` |")
    assert second.endswith("| 7.50 µs | 7.00 – 9.00 (3) |  |  | ≤ 8 reached | `make bench ONLY=paced` |")
