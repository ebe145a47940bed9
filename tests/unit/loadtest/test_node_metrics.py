"""Counters before and after, of every node or of none."""

from loadtest.node_metrics import COUNTED, growth, sums

TEXT = """# HELP carillon_stream_sweeps_total looks at all active streams
carillon_stream_sweeps_total{outcome="nothing"} 12.0
carillon_stream_sweeps_total{outcome="found"} 3.0
carillon_stream_fills_total 7.0
carillon_resumes_total{outcome="resumed"} 2.0
carillon_resumes_total{outcome="too_far"} 1.0
carillon_bus_reconnects_total{reason="closed"} 1.0
carillon_bus_reconnects_created 1.7e+09
"""


def test_the_samples_of_a_counter_are_added_up() -> None:
    assert sums(TEXT) == {"sweeps_found": 3, "holes_filled": 7, "resumes": 3, "bus_reconnects": 1}


def test_what_the_nodes_counters_grew_by_is_added_up() -> None:
    before = {node: dict.fromkeys(COUNTED, 1.0) for node in ("a", "b")}
    after = {node: dict.fromkeys(COUNTED, 3.0) for node in ("a", "b")}
    assert growth(before, after, 2) == {"metrics_missing": 0, **dict.fromkeys(COUNTED, 4.0)}


def test_nothing_is_measured_when_a_node_does_not_answer() -> None:
    before = {node: dict.fromkeys(COUNTED, 1.0) for node in ("a", "b")}
    after = {"a": dict.fromkeys(COUNTED, 1.0)}
    assert growth(before, after, 2) == {"metrics_missing": 1, **dict.fromkeys(COUNTED, None)}
    assert growth({}, {}, 2)["sweeps_found"] is None
