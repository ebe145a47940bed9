"""A histogram that takes many equal observations at once: a write to 2,000 connections is one step.

Only one thread observes, without a lock; any other may ask what was observed.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Observations:
    """Those of one set of label values."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, amount: float, times: int = 1) -> None:
        """`amount` was seen so many times."""
        self._counts[bisect_left(self._bounds, amount)] += times
        self._sum += amount * times

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        counts = accumulate(self._counts.copy())
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), self._sum)


class WeightedHistogram(Collector):
    """Read by Prometheus like any other histogram. `labels` makes a set of labels appear, at 0."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> None:
        self._describe: Final = (name, documentation, None, None, labels)
        self._buckets = buckets
        self._observations: dict[tuple[str, ...], Observations] = {}
        REGISTRY.register(self)

    def labels(self, *values: str) -> Observations:
        """Where to observe what has these."""
        return self._observations.setdefault(values, Observations(self._buckets))

    def describe(self) -> Iterator[HistogramMetricFamily]:
        yield HistogramMetricFamily(*self._describe)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        for family in self.describe():
            for labels, observations in list(self._observations.items()):
                observations.add_to(family, labels)
            yield family
