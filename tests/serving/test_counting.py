"""Our counters and histograms are told to Prometheus as its own library's would be."""

from collections.abc import Callable, Iterable

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from serving.telemetry.counting import CounterFamily, HistogramFamily

BOUNDS = (0.0001, 0.5, 1, 2**16)
VALUES = st.sampled_from(BOUNDS) | st.floats(0, 1e6)
WRITERS = [generate_latest, generate_openmetrics]
Write = Callable[[CollectorRegistry], bytes]


def lines(text: bytes) -> list[str]:
    """What Prometheus reads, but for the time at which each began."""
    return [line.rsplit(" ", 1)[0] if "_created" in line else line for line in text.decode().split("\n")]


def in_bounds(values: Iterable[float]) -> tuple[CollectorRegistry, CollectorRegistry]:
    """The same values in our histogram and in the library's, with a label and without."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    for name, labels, given_labels in (("plain", [], []), ("labelled", ["a", "b"], ["1", 'say "\\n"'])):
        our = HistogramFamily(name, "Some text", labels, BOUNDS, ours).labels(*given_labels)
        family = prometheus_client.Histogram(name, "Some text", labels, buckets=BOUNDS, registry=theirs)
        their = family.labels(*given_labels) if labels else family
        for value in values:
            our.observe(value)
            their.observe(value)
    return ours, theirs


@pytest.mark.parametrize("write", WRITERS, ids=["text", "OpenMetrics"])
@settings(deadline=None)  # a busy machine is no fault
@given(values=st.lists(VALUES))
def test_a_histogram_reads_like_the_librarys(write: Write, values: list[float]) -> None:
    """Buckets, sum and count, down to the letter; a value on a bound is within it."""
    ours, theirs = in_bounds(values)
    assert lines(write(ours)) == lines(write(theirs))


@pytest.mark.parametrize("write", WRITERS, ids=["text", "OpenMetrics"])
@settings(deadline=None)  # a busy machine is no fault
@given(counts=st.dictionaries(st.text(), st.integers(0, 20)))
def test_a_counter_reads_like_the_librarys(write: Write, counts: dict[str, int]) -> None:
    """One line a label, in the order of their appearance."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    our = CounterFamily("calls", "Some text", ["code"], ours)
    their = prometheus_client.Counter("calls", "Some text", ["code"], registry=theirs)
    for code, count in counts.items():
        for _ in range(count):
            our.labels(code).inc()
            their.labels(code).inc()
    assert lines(write(ours)) == lines(write(theirs))
