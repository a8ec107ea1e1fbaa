"""What a decode node counts, for Prometheus. Knows names, units and buckets; not when things happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.decoder.values import Source
from parley.server.kit.telemetry import Meaning, Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parley.decoder.recognizer import Recognizer

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
INSTANTS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
DELAYS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
WORK_S = (0.001, 0.002, 0.005, *DELAYS_S)  # a chunk's work takes milliseconds, a batch of files seconds
FACTORS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
RELOADS = {True: "reloaded", False: "not_reloaded"}
POOL = {
    "total": Meaning("parley_pool_decoders", "gauge", "Decoders of this node"),
    "busy": Meaning("parley_pool_busy", "gauge", "Decoders lent now"),
    "waiting": Meaning("parley_pool_waiting", "gauge", "Calls waiting for a decoder"),
    "lent_total": Meaning("parley_pool_lent", "counter", "Decoders ever lent"),
    "replaced": Meaning("parley_pool_replaced", "counter", "Decoders replaced after a failed reset"),
    "longest_wait_s": Meaning("parley_pool_longest_wait_seconds", "gauge", "Longest wait for a decoder so far"),
}  # by field of the pool's snapshot
WAITING = Meaning("parley_device_waiting", "gauge", "Work waiting for a device", ("device", "work"))
UP = Meaning("parley_device_up", "gauge", "1 for a device that works, 0 for one that is lost", ("device",))


class Metrics(Telemetry):
    """A node's counters: those of live calls (LiveMetrics), and of the decoder (its Observer, from its threads)."""

    def __init__(self) -> None:
        super().__init__()
        self._audio = self.counter("parley_audio_seconds", "Audio received, a channel", "method", "encoding")
        self._step_s = self.histogram(
            "parley_chunk_handling_seconds",
            "Handling one slice of a stream's audio on the event loop: decoding, resampling, endpointing",
            INSTANTS_S,
        )
        self._partial_lag_s = self.histogram(
            "parley_partial_lag_seconds", "From the arrival of an interim result's last audio to its sending", DELAYS_S
        )
        self._final_after_endpoint_s = self.histogram(
            "parley_final_after_endpoint_seconds",
            "From the decision to end an utterance to its final result",
            DELAYS_S,
        )
        self._final_after_half_close_s = self.histogram(
            "parley_final_after_half_close_seconds",
            "From a stream's half-close to its last final result, if one came after it",
            DELAYS_S,
        )
        self._finals = self.counter(
            "parley_finals",
            "Final results, by the pass that gave the words; first_in_time: the second would have been late",
            "source",
        )
        for source in Source:
            self._finals.labels(source.value)  # 0 from the start, so that its rate is known from the first one on
        self._reloads = self.counter(
            "parley_reloads", "Times the language model and the hotwords were to be read anew", "result"
        )
        for result in RELOADS.values():
            self._reloads.labels(result)
        self._file_factor = self.histogram(
            "parley_file_realtime_factor", "Processing time of a file over its length, waiting included", FACTORS
        )
        self._rows = self.histogram("parley_batch_rows", "Utterances, or chunks of them, in one batch", ROWS, "work")
        self._model_s = self.histogram("parley_batch_seconds", "Model time of one batch", WORK_S, "work")
        self._batch_audio = self.counter("parley_batch_audio_seconds", "Audio decoded in batches", "work")
        self._wait_s = self.histogram("parley_queue_wait_seconds", "Waiting for the device", WORK_S, "work")
        self._dropped = self.counter("parley_dropped", "Work or results nobody waits for any more", "work", "reason")
        self._stage_s = self.histogram(
            "parley_stage_seconds", "From a result's coming to a stage behind decoding to its going on", WORK_S, "stage"
        )
        self._stage_results = self.counter(
            "parley_stage_results",
            "Results that a stage let out: done; late, failed, closed: without its work; unbound: to nobody",
            "stage",
            "outcome",
        )
        self.meanings += [*POOL.values(), WAITING, UP]
        self.step = self._step_s.observe  # with every message of every call: no hop between

    def interim(self, lag_s: float) -> None:
        self._partial_lag_s.observe(lag_s)

    def final(self, source: Source, after_endpoint_s: float | None = None) -> None:
        self._finals.labels(source.value).inc()
        if after_endpoint_s is not None:
            self._final_after_endpoint_s.observe(after_endpoint_s)

    def finals_after_half_close(self, seconds: float) -> None:
        self._final_after_half_close_s.observe(seconds)

    def audio(self, method: str, encoding: str, seconds: float) -> None:
        self._audio.labels(method, encoding).inc(seconds)

    def file(self, audio_s: float, processing_s: float) -> None:
        if audio_s:
            self._file_factor.observe(processing_s / audio_s)

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

    def staged(self, stage: str, outcome: str, took_s: float) -> None:
        self._stage_s.labels(stage).observe(took_s)
        self._stage_results.labels(stage, outcome).inc()

    def watch(self, recognizer: Recognizer) -> None:
        """Shows the recognizer's pool and queues as they are at each scrape."""
        self.scrape(lambda: _load(recognizer))


def _load(recognizer: Recognizer) -> Iterator[tuple[Meaning, dict[tuple[str, ...], float]]]:
    pool = recognizer.pool.snapshot()
    for name, meaning in POOL.items():
        yield meaning, {(): getattr(pool, name)}
    waiting = recognizer.waiting().items()
    yield WAITING, {(device, work): count for device, by_work in waiting for work, count in by_work.items()}
    yield UP, {(device,): device not in recognizer.lost for device in recognizer.devices}
