"""A histogram that is told how often, as Prometheus reads it."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest

from app.observability.weighted_histogram import WeightedHistogram

BUCKETS = (0.5, 1.0, 10.0)


@pytest.fixture
def histogram() -> Iterator[WeightedHistogram]:
    made = WeightedHistogram("test_seconds", "For this test", ["stage"], buckets=BUCKETS)
    yield made
    REGISTRY.unregister(made)


def test_it_reads_as_the_librarys_own_histogram_would(histogram: WeightedHistogram) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    ours.register(histogram)
    reference = Histogram("test_seconds", "For this test", ["stage"], buckets=BUCKETS, registry=theirs)
    for amount, times in ((0.25, 3), (0.5, 1), (0.75, 2), (10.0, 1), (11.0, 4)):
        histogram.labels("hub").observe(amount, times)
        for _ in range(times):
            reference.labels("hub").observe(amount)
    assert generate_latest(ours) == generate_latest(theirs)


def test_what_was_never_observed_is_there_at_0(histogram: WeightedHistogram) -> None:
    histogram.labels("socket")
    labels = {"stage": "socket", "le": "+Inf"}
    assert REGISTRY.get_sample_value("test_seconds_bucket", labels) == 0
    assert REGISTRY.get_sample_value("test_seconds_sum", {"stage": "socket"}) == 0
