"""What a node counts, for Prometheus. Knows names, units and buckets; not when things happen.

Each node has a registry of its own, so that many nodes can live in one process. Times are seconds, as Prometheus wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from parley.decoder.values import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from prometheus_client.metrics_core import Metric

    from parley.decoder.recognizer import Recognizer

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
INSTANTS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
DELAYS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
WORK_S = (0.001, 0.002, 0.005, *DELAYS_S)  # a chunk's work takes milliseconds, a batch of files seconds
FACTORS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


RELOADS = {True: "reloaded", False: "not_reloaded"}


class Metrics:
    """A node's counters. Also the decoder's Observer: `batch`, `waited` and `dropped` are called from its threads."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # processor time and memory, under the names that every dashboard knows
        self._calls = Counter("parley_calls", "Calls ended, by status code", ["method", "code"], registry=registry)
        self._active = Gauge("parley_calls_active", "Calls open now", ["method"], registry=registry)
        self._audio = Counter(
            "parley_audio_seconds", "Audio received, a channel", ["method", "encoding"], registry=registry
        )
        self.chunk_s = Histogram(
            "parley_chunk_handling_seconds",
            "Handling one slice of a stream's audio on the event loop: decoding, resampling, endpointing",
            buckets=INSTANTS_S,
            registry=registry,
        )
        self.partial_lag_s = Histogram(
            "parley_partial_lag_seconds",
            "From the arrival of an interim result's last audio to its sending",
            buckets=DELAYS_S,
            registry=registry,
        )
        self.final_after_endpoint_s = Histogram(
            "parley_final_after_endpoint_seconds",
            "From the decision to end an utterance to its final result",
            buckets=DELAYS_S,
            registry=registry,
        )
        self.final_after_half_close_s = Histogram(
            "parley_final_after_half_close_seconds",
            "From a stream's half-close to its last final result, if one came after it",
            buckets=DELAYS_S,
            registry=registry,
        )
        self._finals = Counter(
            "parley_finals",
            "Final results, by the pass that gave the words; first_in_time: the second would have been late",
            ["source"],
            registry=registry,
        )
        for source in Source:
            self._finals.labels(source.value)  # 0 from the start, so that its rate is known from the first one on
        self._reloads = Counter(
            "parley_reloads",
            "Times the language model and the hotwords were to be read anew",
            ["result"],
            registry=registry,
        )
        for result in RELOADS.values():
            self._reloads.labels(result)
        self.file_factor = Histogram(
            "parley_file_realtime_factor",
            "Processing time of a file over its length, waiting included",
            buckets=FACTORS,
            registry=registry,
        )
        self._rows = Histogram(
            "parley_batch_rows",
            "Utterances, or chunks of them, in one batch",
            ["work"],
            buckets=ROWS,
            registry=registry,
        )
        self._model_s = Histogram(
            "parley_batch_seconds", "Model time of one batch", ["work"], buckets=WORK_S, registry=registry
        )
        self._batch_audio = Counter(
            "parley_batch_audio_seconds", "Audio decoded in batches", ["work"], registry=registry
        )
        self._wait_s = Histogram(
            "parley_queue_wait_seconds", "Waiting for the device", ["work"], buckets=WORK_S, registry=registry
        )
        self._dropped = Counter(
            "parley_dropped", "Work or results nobody waits for any more", ["work", "reason"], registry=registry
        )

    def call_began(self, method: str) -> None:
        self._active.labels(method).inc()

    def call_ended(self, method: str, code: grpc.StatusCode) -> None:
        self._active.labels(method).dec()
        self._calls.labels(method, code.name).inc()

    def audio(self, method: str, encoding: str, seconds: float) -> None:
        self._audio.labels(method, encoding).inc(seconds)

    def final(self, source: Source) -> None:
        self._finals.labels(source.value).inc()

    def reload(self, *, done: bool) -> None:
        self._reloads.labels(RELOADS[done]).inc()

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None:
        self._rows.labels(work).observe(rows)
        self._model_s.labels(work).observe(wall_s)
        self._batch_audio.labels(work).inc(audio_s)

    def waited(self, work: str, wait_s: float) -> None:
        self._wait_s.labels(work).observe(wait_s)

    def dropped(self, work: str, reason: str) -> None:
        self._dropped.labels(work, reason).inc()

    def watch(self, recognizer: Recognizer) -> None:
        """Shows the recognizer's pool and queues as they are at each scrape."""
        self.registry.register(_Load(recognizer))


class _Load(Collector):
    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    def collect(self) -> Iterator[Metric]:
        pool = self._recognizer.pool.snapshot()
        yield GaugeMetricFamily("parley_pool_decoders", "Decoders of this node", value=pool.total)
        yield GaugeMetricFamily("parley_pool_busy", "Decoders lent now", value=pool.busy)
        yield GaugeMetricFamily("parley_pool_waiting", "Calls waiting for a decoder", value=pool.waiting)
        yield CounterMetricFamily("parley_pool_lent", "Decoders ever lent", value=pool.lent_total)
        yield CounterMetricFamily("parley_pool_replaced", "Decoders replaced after a failed reset", value=pool.replaced)
        yield GaugeMetricFamily(
            "parley_pool_longest_wait_seconds", "Longest wait for a decoder so far", value=pool.longest_wait_s
        )
        queues = GaugeMetricFamily("parley_device_waiting", "Work waiting for a device", labels=["device", "work"])
        for device, waiting in self._recognizer.waiting().items():
            for work, count in waiting.items():
                queues.add_metric([device, work], count)
        yield queues
        up = GaugeMetricFamily(
            "parley_device_up", "1 for a device that works, 0 for one that is lost", labels=["device"]
        )
        for device in self._recognizer.devices:
            up.add_metric([device], device not in self._recognizer.lost)
        yield up


class Exposition:
    """The metrics' own HTTP port, served by a thread of its own: it answers while models load."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, host, registry)
        self.port: int = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
