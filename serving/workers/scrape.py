"""What Prometheus is told of workers: each one's own metrics, with a label that says whose, if there are several."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class WorkersCollector(Collector):
    """Asks for every worker's exposition, by the worker's number, whenever Prometheus asks."""

    def __init__(self, expositions: Callable[[], Mapping[int, str]], *, labels: bool) -> None:
        self._expositions = expositions
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        """Every metric once, with the samples of all workers."""
        metrics: dict[str, Metric] = {}
        for worker, text in sorted(self._expositions().items()):
            for family in text_string_to_metric_families(text):
                empty = Metric(family.name, family.documentation, family.type)
                label = {"worker": str(worker)} if self._labels else {}
                metrics.setdefault(family.name, empty).samples += [
                    sample._replace(labels={**sample.labels, **label}) for sample in family.samples
                ]
        yield from metrics.values()
