"""Counters and histograms that cost a call next to nothing: plain numbers, told to Prometheus when it asks.

prometheus_client's own take a lock and walk through the buckets, 1 µs each time. Here the event loop's thread alone
counts, and the thread that Prometheus talks to only reads; it may find a value in its bucket and not yet in the sum.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString


class Counter:
    """A number that only grows."""

    def __init__(self) -> None:
        self.value = 0
        self.created_s = time.time()
        """When it began, seconds since 1970."""

    def inc(self) -> None:
        """Count one more."""
        self.value += 1


class Histogram:
    """Values, counted in buckets that each hold what is at most their bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """A bucket each, and one for what is above every bound."""
        self.sum = 0.0
        self.created_s = time.time()
        """When it began, seconds since 1970."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


T = TypeVar("T")


class _Family(Collector, Generic[T]):
    """One metric: a `T` for every combination of its labels' values."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], new: Callable[[], T], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._new = new
        self._children: dict[tuple[str, ...], T] = {}
        registry.register(self)

    def labels(self, *values: str) -> T:
        """The one with these values."""
        if values not in self._children:
            self._children[values] = self._new()
        return self._children[values]


class CounterFamily(_Family[Counter]):
    """A counter for every combination of its labels' values."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        super().__init__(name, text, labels, Counter, registry)

    def collect(self) -> Iterable[Metric]:
        """What Prometheus is told."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, counter in self._children.copy().items():
            family.add_metric(values, counter.value, created=counter.created_s)
        yield family


class HistogramFamily(_Family[Histogram]):
    """A histogram for every combination of its labels' values."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        super().__init__(name, text, labels, lambda: Histogram(bounds), registry)
        self._bounds = [_written(bound) for bound in (*bounds, float("inf"))]

    def collect(self) -> Iterable[Metric]:
        """What Prometheus is told."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, histogram in self._children.copy().items():
            buckets = list(zip(self._bounds, accumulate(histogram.counts), strict=True))
            family.add_metric(values, buckets, histogram.sum)
            named = dict(zip(self._labels, values, strict=True))
            family.samples.append(Sample(f"{self._name}_created", named, histogram.created_s))
        yield family


def _written(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]  # this one has no types
