"""What every process counts, for Prometheus, and where it is read. Knows calls and the process; not what is served.

Each process object has a registry of its own, so that many can live in one process. Times are seconds, as Prometheus
wants. What is declared here is remembered, with its meaning: the reference of metrics is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class Meaning:
    """A metric: its name (a counter's without "_total"), counter, gauge or histogram, what it says, its labels."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()


Samples = dict[tuple[str, ...], float]  # numbers by their labels' values


class Telemetry:
    """The metrics of a process. `meanings`: of all that are declared."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.meanings: list[Meaning] = []
        ProcessCollector(registry=self.registry)  # processor time and memory, under names that every dashboard knows
        self._calls = self.counter("parley_calls", "Calls ended, by status code", "method", "code")
        self._active = self.gauge("parley_calls_active", "Calls open now", "method")

    def call_began(self, method: str) -> None:
        self._active.labels(method).inc()

    def call_ended(self, method: str, code: str) -> None:
        self._active.labels(method).dec()
        self._calls.labels(method, code).inc()

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        self.meanings.append(Meaning(name, "counter", text, labels))
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.meanings.append(Meaning(name, "gauge", text, labels))
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self.meanings.append(Meaning(name, "histogram", text, labels))
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    def scrape(self, look: Callable[[], Iterable[tuple[Meaning, Samples]]]) -> None:
        """From now on this is called at each scrape, and what it gives is shown."""
        self.registry.register(_Looked(look))


class _Looked(Collector):
    def __init__(self, look: Callable[[], Iterable[tuple[Meaning, Samples]]]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        for meaning, samples in self._look():
            kind = CounterMetricFamily if meaning.kind == "counter" else GaugeMetricFamily
            family = kind(meaning.name, meaning.text, labels=meaning.labels)
            for labels, value in samples.items():
                family.add_metric(labels, value)
            yield family


class Exposition:
    """The metrics' own HTTP port, served by a thread of its own: it answers whatever the process is at."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, host, registry)
        self.port: int = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
