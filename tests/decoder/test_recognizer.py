"""The library's front door: real speech with the embedded models, devices and faults with a scripted one."""

from __future__ import annotations

import io
import itertools
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder import build as module
from parley.decoder.audio import open_file
from parley.decoder.config import RecognizerConfig
from parley.decoder.device import CPU
from parley.decoder.engine.finals import PENDING_SEGMENTS
from parley.decoder.engine.transcribe import FileResult
from parley.decoder.errors import (
    AudioTooLong,
    BadAudio,
    Cancelled,
    DeviceError,
    InvalidOption,
    ModelError,
    OutOfMemory,
    UnknownModel,
)
from parley.decoder.model_folder import ModelFolder
from parley.decoder.recognizer import Recognizer
from parley.decoder.search.beam import Beam
from parley.decoder.values import (
    Advanced,
    AudioFormat,
    Encoding,
    Event,
    Failed,
    Final,
    Finished,
    Partial,
    Passes,
    Source,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
    WordTiming,
)
from scripts.scoring import count_errors
from tests.decoder.conftest import FIRST_MODEL, MODEL
from tests.decoder.fakes import WAIT_S, EchoModel, SteppedModel, end_call_on_close
from tests.decoder.streams import FirstPassShape
from tests.speech import RATE, RECORDINGS, pcm_of, words_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from parley.decoder.audio import FileAudio
    from parley.decoder.device import Device
    from parley.decoder.engine.pool import Lease
    from parley.decoder.engine.request import Request
    from parley.decoder.models.acoustic import Chunk
    from parley.decoder.search.registry import Searches

MONO = AudioFormat(Encoding.LINEAR16, RATE, 1)
PAUSE = bytes(2 * RATE)  # 1 s
NONE = dict.fromkeys(("chunk", "final", "catch_up", "file", "partial"), 0)  # that wait


class Heard:
    """A sink that waits for its stream's end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.partial = threading.Event()
        self._over = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Partial):
            self.partial.set()
        if isinstance(event, Finished | Failed):
            self._over.set()

    def wait(self) -> list[Event]:
        assert self._over.wait(4 * WAIT_S)
        ends = [isinstance(event, Finished | Failed) for event in self.events]
        assert ends.index(True) == len(ends) - 1  # nothing comes after the last
        return self.events

    def finals(self) -> list[Final]:
        return [event for event in self.wait() if isinstance(event, Final)]


def stream(
    recognizer: Recognizer,
    audio: bytes,
    cuts: Sequence[int] = (),
    fmt: AudioFormat = MONO,
    options: StreamOptions | None = None,
) -> Heard:
    """Streams it in the pieces between the cuts."""
    heard = Heard()
    edges = [0, *sorted(cuts), len(audio)]
    with recognizer.pool.lend(timeout=WAIT_S, count=fmt.channels if fmt.separate_channels else 1) as lease:
        opened = recognizer.open_stream(lease, fmt, options or StreamOptions(), heard)
        for start, end in itertools.pairwise(edges):
            run(opened.accept(audio[start:end]))
        run(opened.finish())
        heard.wait()
        opened.close()
    return heard


def run(steps: Iterator[None]) -> int:
    """Does all of a stream's work, and says in how many steps."""
    return sum(1 for _ in steps) + 1


def transcribe(recognizer: Recognizer, data: bytes, fmt: AudioFormat = MONO, **more: Any) -> FileResult:
    audio = open_file(data, fmt)
    with recognizer.pool.lend(timeout=WAIT_S, count=audio.channels) as lease:
        return recognizer.transcribe(lease, audio, more.pop("options", StreamOptions()), **more)


def text_of(finals: Sequence[Final], channel: int = 0) -> str:
    return " ".join(final.hypotheses[0].text for final in finals if final.channel == channel)


def words_at(finals: Sequence[Final]) -> list[tuple[int, str, int, int]]:
    """(channel, text, start, end) of every word."""
    return [
        (final.channel, word.text, word.start_ms, word.end_ms) for final in finals for word in final.hypotheses[0].words
    ]


def stereo(left: str, right: str) -> bytes:
    """Two recordings side by side, the second one's beginning a second later."""
    rows = [np.frombuffer(pcm, "<i2") for pcm in (pcm_of(left), PAUSE + pcm_of(right))]
    both = np.zeros((max(map(len, rows)), 2), "<i2")
    for channel, row in enumerate(rows):
        both[: len(row), channel] = row
    return both.tobytes()


# Words.


@given(st.randoms(use_true_random=False))
@settings(max_examples=3, deadline=None)
def test_random_pieces_are_heard_as_the_whole(recognizer: Recognizer, random: random.Random) -> None:
    audio = pcm_of("austen_2.flac") + PAUSE + pcm_of("austen_5.flac")
    whole = stream(recognizer, audio).finals()
    cuts = [random.randrange(len(audio)) for _ in range(random.choice([3, 30, 3000]))]
    pieces = stream(recognizer, audio, cuts).finals()
    assert words_at(pieces) == words_at(whole)
    assert text_of(pieces) == text_of(whole)
    assert len(whole) == 2
    assert count_errors(f"{words_of('austen_2.flac')} {words_of('austen_5.flac')}", text_of(whole)).rate < 0.2


def test_events_of_a_stream(recognizer: Recognizer) -> None:
    audio = PAUSE + pcm_of("austen_2.flac") + PAUSE
    heard = stream(recognizer, audio, range(0, len(audio), 3_200), options=StreamOptions(interim_results=True))
    kinds = [type(event) for event in heard.events if not isinstance(event, Partial)]
    assert kinds == [SpeechBegin, SpeechEnd, Final, Advanced, Finished]
    (final,) = heard.finals()
    assert (final.channel, final.segment) == (0, 0)
    assert 600 < final.start_ms < 1_100
    assert all(final.start_ms <= start < end <= final.end_ms for _, _, start, end in words_at([final]))
    assert final.hypotheses[0].text.split() == [word for _, word, _, _ in words_at([final])]


def test_a_file_has_its_known_text(recognizer: Recognizer) -> None:
    result = transcribe(recognizer, pcm_of("two_cities.flac"))
    assert count_errors(words_of("two_cities.flac"), text_of(result.finals)).rate < 0.15
    assert result.audio_ms == len(pcm_of("two_cities.flac")) * 1000 // (2 * RATE)
    ends = [0, *(final.end_ms for final in result.finals)]
    assert all(end <= final.start_ms for end, final in zip(ends, result.finals, strict=False))
    assert ends[-1] <= result.audio_ms + 20


def test_32_at_once_are_heard_as_one_by_one(recognizer: Recognizer) -> None:
    audios = [pcm_of(name) for name in RECORDINGS if name.startswith("austen")]
    alone = [words_at(stream(recognizer, audio).finals()) for audio in audios]
    assert all(alone)

    def client(number: int) -> list[tuple[int, str, int, int]]:
        audio = audios[number % len(audios)]
        return words_at(stream(recognizer, audio, range(0, len(audio), 640 * (1 + number))).finals())

    with ThreadPoolExecutor(32) as clients:
        together = list(clients.map(client, range(32)))
    assert together == [alone[number % len(audios)] for number in range(32)]


def test_each_channel_has_its_own_words_in_a_stream(recognizer: Recognizer) -> None:
    fmt = AudioFormat(Encoding.LINEAR16, RATE, 2, separate_channels=True)
    heard = stream(recognizer, stereo("austen_1.flac", "austen_3.flac"), fmt=fmt)
    for channel, recording in enumerate(("austen_1.flac", "austen_3.flac")):
        assert count_errors(words_of(recording), text_of(heard.finals(), channel)).rate < 0.2
    assert {event.channel for event in heard.events if isinstance(event, SpeechBegin)} == {0, 1}
    assert sum(isinstance(event, Finished) for event in heard.events) == 1


def test_each_channel_has_its_own_words_in_a_file(recognizer: Recognizer) -> None:
    samples = np.frombuffer(stereo("austen_4.flac", "austen_5.flac"), "<i2").reshape(-1, 2)
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    result = transcribe(recognizer, file.getvalue(), AudioFormat(separate_channels=True))
    assert [final.channel for final in result.finals] == [0, 1]
    for channel, recording in enumerate(("austen_4.flac", "austen_5.flac")):
        assert count_errors(words_of(recording), text_of(result.finals, channel)).rate < 0.2


def test_alternatives_and_word_times_are_the_request_s(recognizer: Recognizer) -> None:
    options = StreamOptions(max_alternatives=3, word_times=False)
    (final,) = stream(recognizer, pcm_of("austen_2.flac"), options=options).finals()
    assert len(final.hypotheses) == 3
    assert not any(hypothesis.words for hypothesis in final.hypotheses)


def test_no_audio_has_no_words(recognizer: Recognizer) -> None:
    assert stream(recognizer, b"").events == [Finished()]
    assert transcribe(recognizer, b"") == FileResult((), 0)


# Both passes.


ALL_TIMINGS = {
    Source.FIRST: {WordTiming.CTC},
    Source.SECOND: set(WordTiming),  # of which words both passes have
}


@pytest.mark.parametrize(
    ("passes", "source"),
    [
        (Passes.FIRST, Source.FIRST),
        (Passes.SECOND, Source.SECOND),
        (Passes.BOTH, Source.SECOND),
        (None, Source.SECOND),  # as the config says: both
    ],
)
def test_passes_of_a_stream(both: Recognizer, passes: Passes | None, source: Source) -> None:
    audio = pcm_of("austen_2.flac")
    heard = Heard()
    with both.pool.lend(timeout=WAIT_S) as lease:
        live = both.open_stream(lease, MONO, StreamOptions(interim_results=True, passes=passes), heard)
        run(live.accept(audio[: 4 * RATE]))  # 2 s
        assert heard.partial.wait(WAIT_S)
        run(live.accept(audio[4 * RATE :]))
        run(live.finish())
        (final,) = heard.finals()
    assert final.source is source
    assert final.word_timing in (ALL_TIMINGS[source] if passes is not Passes.SECOND else {WordTiming.ATTENTION})
    hypothesis = final.hypotheses[0]
    assert hypothesis.text.split() == [word.text for word in hypothesis.words]
    ends = [final.start_ms, *(word.end_ms for word in hypothesis.words)]
    assert all(end <= word.start_ms <= word.end_ms for end, word in zip(ends, hypothesis.words, strict=False))
    assert ends[-1] <= final.end_ms
    assert 0 < hypothesis.confidence <= 1
    if source is Source.SECOND:
        assert count_errors(words_of("austen_2.flac"), hypothesis.text).rate < 0.2
    partial = next(event for event in heard.events if isinstance(event, Partial))
    assert 0 <= partial.start_ms < partial.end_ms <= 2_000
    # The first pass's partials have words with times, the second's are made in a hurry.
    assert bool(partial.hypothesis.words) == (passes is not Passes.SECOND)


def test_with_both_the_words_are_the_second_pass_s(both: Recognizer) -> None:
    audio = pcm_of("austen_5.flac")
    alone = stream(both, audio, options=StreamOptions(passes=Passes.SECOND)).finals()
    together = stream(both, audio).finals()
    assert text_of(together) == text_of(alone) != ""
    assert words_at(together) != words_at(alone)  # but at the first's times, where it has them
    first = stream(both, audio, options=StreamOptions(passes=Passes.FIRST)).finals()
    times = {(start, end) for _, _, start, end in words_at(first)}
    assert any((start, end) in times for _, _, start, end in words_at(together))


@pytest.mark.parametrize(
    ("passes", "source", "timing"),
    [
        (Passes.FIRST, Source.FIRST, WordTiming.CTC),
        (Passes.SECOND, Source.SECOND, WordTiming.ATTENTION),
        (Passes.BOTH, Source.SECOND, WordTiming.ATTENTION),
    ],
)
def test_a_recording_is_decoded_by_either_pass(
    both: Recognizer, passes: Passes, source: Source, timing: WordTiming
) -> None:
    audio = pcm_of("austen_2.flac") + 2 * PAUSE + pcm_of("austen_5.flac")
    result = transcribe(both, audio, options=StreamOptions(passes=passes))
    assert [(final.source, final.word_timing) for final in result.finals] == [(source, timing)] * 2
    assert [word for _, word, _, _ in words_at(result.finals)] == text_of(result.finals).split()
    if source is Source.SECOND:
        words = f"{words_of('austen_2.flac')} {words_of('austen_5.flac')}"
        assert count_errors(words, text_of(result.finals)).rate < 0.2


def test_16_at_once_through_the_first_pass_are_heard_as_one_by_one(both: Recognizer) -> None:
    options = StreamOptions(passes=Passes.FIRST)
    audios = [pcm_of("austen_2.flac"), pcm_of("austen_5.flac") + PAUSE + pcm_of("austen_2.flac")[: 2 * RATE]]
    alone = [words_at(stream(both, audio, options=options).finals()) for audio in audios]
    assert all(alone)

    def client(number: int) -> list[tuple[int, str, int, int]]:
        audio = audios[number % 2]
        cuts = np.random.default_rng(number).integers(0, len(audio), 3 + 20 * number).tolist()
        return words_at(stream(both, audio, cuts, options=options).finals())

    with ThreadPoolExecutor(16) as clients:
        together = list(clients.map(client, range(16)))
    assert together == [alone[number % 2] for number in range(16)]


def test_log_probs_that_are_not_finite_fail_their_stream_alone(
    both: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = both._build.first_passes[CPU].model
    forward = model.forward
    audio, options = pcm_of("austen_2.flac"), StreamOptions(passes=Passes.FIRST)
    alone = words_at(stream(both, audio, options=options).finals())
    with both.pool.lend(timeout=WAIT_S, count=2) as lease:
        sick = lease.decoders[0].slot

        def poisoned(chunks: Sequence[Chunk]) -> Any:
            log_probs, frames = forward(chunks)
            log_probs = log_probs.clone()
            for row, chunk in enumerate(chunks):
                if chunk.slot == sick and chunk.index == 3:
                    log_probs[row, 1, 5] = float("nan")
            return log_probs, frames

        monkeypatch.setattr(model, "forward", poisoned)
        heard = [Heard(), Heard()]
        for decoder, sink in zip(lease.decoders, heard, strict=True):
            decoder.open(0, both._policy.plan(options), sink)
        for decoder in lease.decoders:
            decoder.accept(np.frombuffer(audio, "<i2"))
            decoder.finish()
        bad, good = (sink.wait() for sink in heard)
    assert isinstance(bad[-1], Failed)
    assert isinstance(bad[-1].error, DeviceError)
    assert words_at([event for event in good if isinstance(event, Final)]) == alone


def test_memory_of_a_decoder(both: Recognizer, recognizer: Recognizer) -> None:
    with both.pool.lend(timeout=WAIT_S) as lease:
        (decoder,) = lease.decoders
        assert both.memory.audio_bytes == decoder._audio.samples.nbytes
    network = both._build.first_passes[CPU].model._network  # type: ignore[attr-defined]
    caches = (network.encoder_cache, network.head_cache, network.past)
    assert both.memory.cache_bytes * 16 == sum(cache.numel() * cache.element_size() for cache in caches)
    search = both._build.first_passes[CPU]._search
    assert isinstance(search, Beam)
    assert both.memory.search_bytes * 16 == sum(array.nbytes for slot in search._slots for array in slot)
    assert recognizer.memory == replace(both.memory, search_bytes=0, cache_bytes=0)


# Models.


def test_models_of_both_passes(both: Recognizer) -> None:
    second, first = both.models  # finals are the words of what comes first
    assert (second.name, first.name) == ("moonshine-tiny-en", "en-streaming")
    assert both.find_model("", "en-GB") == (second, Passes.BOTH)
    assert both.find_model("moonshine-tiny-en", "") == (second, Passes.SECOND)
    assert both.find_model("en-streaming", "en") == (first, Passes.FIRST)
    with pytest.raises(UnknownModel, match="model: got 'parrot', this node has "):
        both.find_model("parrot", "")


def test_models(recognizer: Recognizer) -> None:
    (info,) = recognizer.models
    assert info.name == "moonshine-tiny-en"
    for name, language in (("", ""), ("moonshine-tiny-en", ""), ("", "en"), ("", "EN-gb"), ("moonshine-tiny-en", "en")):
        assert recognizer.find_model(name, language) == (info, Passes.SECOND)


def test_unknown_models(recognizer: Recognizer) -> None:
    with pytest.raises(UnknownModel, match="model: got 'parrot', this node has moonshine-tiny-en") as caught:
        recognizer.find_model("parrot", "xx")
    assert caught.value.field == "model"
    with pytest.raises(UnknownModel, match="language: got 'de-DE', this node has en") as caught:
        recognizer.find_model("", "de-DE")
    assert caught.value.field == "language"


# With a scripted model.


class EchoFirst(EchoModel):
    """A first pass that answers at once."""

    model = FirstPassShape()


class Scripted:
    """Recognizers whose devices have a model that the test steps; all devices share it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.model = SteppedModel()
        self.built: list[tuple[str, int]] = []
        self.built_first: list[tuple[str, str, int, int]] = []
        self.made: list[Recognizer] = []
        patch.setattr(module, "load_whole_model", self._build)
        patch.setattr(module, "first_pass", self._build_first)

    def _build_first(
        self, folder: ModelFolder, place: Device, threads: int, config: RecognizerConfig, searches: Searches
    ) -> EchoFirst:
        self.built_first.append((folder.info.name, str(place), threads, config.decoders))
        return EchoFirst()

    def _build(self, folder: ModelFolder, place: Device, threads: int) -> SteppedModel:
        if str(place) == "cuda:9":
            raise ModelError("no such card")
        self.built.append((str(place), threads))
        return self.model

    def start(self, **options: Any) -> Recognizer:
        self.made.append(
            Recognizer(RecognizerConfig(second_model_dir=MODEL, **{"devices": ("cpu",), "decoders": 2, **options}))
        )
        return self.made[-1]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    scripted = Scripted(monkeypatch)
    yield scripted
    for recognizer in scripted.made:
        for _ in range(4):
            scripted.model.go()  # a test that failed may have left it waiting
        recognizer.close()


def opened(recognizer: Recognizer, **more: Any) -> tuple[Lease, Request, Heard]:
    heard = Heard()
    lease = recognizer.pool.request().result(timeout=0)
    return lease, recognizer.open_stream(lease, MONO, StreamOptions(), heard, **more), heard


SPEECH = pcm_of("austen_2.flac")


def test_every_device_has_its_decoders(scripted: Scripted) -> None:
    recognizer = scripted.start(devices=("cpu", "cuda:1"), decoders=3, threads=5)
    assert recognizer.devices == ("cpu", "cuda:1")
    assert scripted.built == [("cpu", 5), ("cuda:1", 5)]
    leases = [recognizer.pool.request().result(timeout=0) for _ in range(6)]
    assert sorted((d.device, d.slot) for lease in leases for d in lease.decoders) == [
        (device, slot) for device in ("cpu", "cuda:1") for slot in range(3)
    ]
    assert recognizer.waiting() == dict.fromkeys(("cpu", "cuda:1"), NONE)


@pytest.mark.parametrize("passes", Passes)
def test_every_device_has_the_models_that_its_passes_need(scripted: Scripted, passes: Passes) -> None:
    recognizer = scripted.start(devices=("cpu", "cuda:1"), threads=5, first_model_dir=FIRST_MODEL, passes=passes)
    devices = ("cpu", "cuda:1")
    first = [("en-streaming", device, 5, 2) for device in devices]
    assert scripted.built_first == ([] if passes is Passes.SECOND else first)
    assert scripted.built == ([] if passes is Passes.FIRST else [(device, 5) for device in devices])
    names = {Passes.FIRST: ["en-streaming"], Passes.SECOND: ["moonshine-tiny-en"]}
    assert [model.name for model in recognizer.models] == names.get(passes, ["moonshine-tiny-en", "en-streaming"])
    assert recognizer.find_model("", "") == (recognizer.models[0], passes)


def test_a_stream_through_a_first_pass(scripted: Scripted) -> None:
    recognizer = scripted.start(first_model_dir=FIRST_MODEL, passes=Passes.FIRST)
    lease, live, heard = opened(recognizer)
    run(live.accept(SPEECH))
    run(live.finish())
    (final,) = heard.finals()
    lease.release()
    assert (final.source, final.word_timing) == (Source.FIRST, WordTiming.CTC)
    last = -(-(final.end_ms - final.start_ms) // 320) - 1
    assert final.hypotheses[0].text == str(last)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.toml").write_text((MODEL / "model.toml").read_text())
    with pytest.raises(ModelError, match="both passes' models are called 'moonshine-tiny-en'"):
        Recognizer(
            RecognizerConfig(
                first_model_dir=tmp_path / "first", second_model_dir=tmp_path / "second", passes=Passes.BOTH
            )
        )


@pytest.mark.parametrize("fault", [OutOfMemory("2 TB"), MemoryError()])
def test_too_many_decoders_for_the_memory(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def build(*_: object) -> None:
        raise fault

    monkeypatch.setattr(module, "first_pass", build)
    before = threading.active_count()
    with pytest.raises(ModelError, match="no memory for 2 decoders a device"):
        scripted.start(first_model_dir=FIRST_MODEL, passes=Passes.BOTH)
    assert threading.active_count() == before


@pytest.mark.parametrize(("cards", "devices"), [(0, ("cpu",)), (2, ("cuda:0", "cuda:1"))])
def test_auto_is_every_card_or_else_the_cpu(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, cards: int, devices: tuple[str, ...]
) -> None:
    monkeypatch.setattr(module, "usable_cards", lambda passes: cards)
    assert scripted.start(devices=("auto",)).devices == devices


def test_threads_are_all_that_this_process_may_use(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 2, 7}, raising=False)
    scripted.start()
    assert scripted.built == [("cpu", 3)]
    monkeypatch.delattr("os.sched_getaffinity")  # not every system has it
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    scripted.start()
    assert scripted.built[1:] == [("cpu", 6)]
    scripted.start(devices=("cpu:0", "cpu:1", "cpu:2", "cpu:3"))  # who share them
    assert scripted.built[2:] == [("cpu", 1)] * 4
    scripted.start(devices=("cpu:0", "cpu:1", "cuda:0"))
    assert scripted.built[6:] == [("cpu", 3), ("cpu", 3), ("cuda:0", 6)]
    scripted.start(devices=("cpu:0", "cpu:1", "cuda:0"), threads=5)
    assert scripted.built[9:] == [("cpu", 5), ("cpu", 5), ("cuda:0", 5)]


def test_a_device_that_cannot_be_had_stops_the_others(scripted: Scripted) -> None:
    before = threading.active_count()
    with pytest.raises(ModelError, match="no such card"):
        scripted.start(devices=("cpu", "cuda:9"))
    assert [device for device, _ in scripted.built] == ["cpu"]
    assert threading.active_count() == before


def test_a_model_for_another_rate_is_refused(model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(model_folder, info=replace(model_folder.info, sample_rate=8_000))
    monkeypatch.setattr(ModelFolder, "read", lambda path: other)
    with pytest.raises(ModelError, match="got a model for 8000 Hz, expected 16000 Hz"):
        Recognizer(RecognizerConfig(second_model_dir=MODEL))


def test_a_broken_decoder_is_rebuilt_in_its_place(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = scripted.start(decoders=1)
    lease, _, _ = opened(recognizer)
    (broken,) = lease.decoders
    monkeypatch.setattr(broken, "reset", lambda: 1 / 0)
    lease.release()
    (fresh,) = recognizer.pool.request().result(timeout=0).decoders
    assert fresh is not broken
    assert (fresh.device, fresh.slot) == ("cpu", 0)


def test_it_is_closed_with_its_block(scripted: Scripted) -> None:
    before = threading.active_count()
    with scripted.start(devices=("cpu", "cuda:0")):
        assert threading.active_count() == before + 3  # its devices', its stage's
    assert threading.active_count() == before


def test_close_fails_streams_with_work(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = scripted.start(decoders=3, max_batch=1)
    (_, decoded, first), (_, waiting, second), (_, idle, third) = (opened(recognizer) for _ in range(3))
    run(decoded.accept(SPEECH))
    run(decoded.finish())
    scripted.model.entered()
    run(waiting.accept(SPEECH))
    run(waiting.finish())
    run(idle.accept(SPEECH))
    end_call_on_close(recognizer._build.workers[CPU], scripted.model, monkeypatch)
    recognizer.close()
    assert first.events[-1] == Finished()
    assert second.finals() == []
    run(idle.finish())
    for heard in (second, third):
        last = heard.wait()[-1]
        assert isinstance(last, Failed)
        assert isinstance(last.error, DeviceError)
        assert str(last.error) == "cpu has stopped"


def test_one_failed_channel_fails_the_stream_once(scripted: Scripted) -> None:
    recognizer = scripted.start(max_batch=1)
    heard = Heard()
    lease = recognizer.pool.request(2).result(timeout=0)
    fmt = AudioFormat(Encoding.LINEAR16, RATE, 2, separate_channels=True)
    both = recognizer.open_stream(lease, fmt, StreamOptions(), heard)
    samples = np.frombuffer(SPEECH, "<i2")
    run(both.accept(np.repeat(samples, 2).tobytes()))
    run(both.finish())
    for fault in ("one", "two"):
        scripted.model.entered()
        scripted.model.fail(RuntimeError(fault))
    recognizer.close()
    assert [str(event.error) for event in heard.wait() if isinstance(event, Failed)] == ["one"]


def test_cursors_and_room(scripted: Scripted) -> None:
    recognizer = scripted.start(max_batch=1)
    _, live, heard = opened(recognizer)
    run(live.accept(SPEECH[:-2]))
    received_ms = (len(SPEECH) // 2 - 1) * 1000 // RATE
    at = live.cursors
    assert at.received_ms == received_ms
    assert received_ms - 20 < at.processed_ms <= received_ms
    assert at.final_ms < at.processed_ms
    live.finalize()
    run(live.accept(SPEECH))
    assert live.has_room
    live.finalize()
    assert not live.has_room
    run(live.finish())
    for _ in range(2):
        scripted.model.entered()
        scripted.model.go()
    heard.wait()
    assert live.has_room
    at = live.cursors
    assert at.received_ms == at.processed_ms == at.final_ms  # though the last frame was filled up


def test_a_stream_too_long(scripted: Scripted) -> None:
    _, live, _ = opened(scripted.start(), max_audio_s=1.5)
    run(live.accept(bytes(3 * RATE)))
    assert live.cursors.received_ms == 1_500
    with pytest.raises(AudioTooLong, match=r"longer than the limit of 1\.5 s"):
        run(live.accept(bytes(2)))


def test_seconds_of_silence_in_a_few_bytes_are_taken_step_by_step(scripted: Scripted) -> None:
    recognizer = scripted.start()
    lease = recognizer.pool.request().result(timeout=0)
    flac = io.BytesIO()
    soundfile.write(flac, np.zeros(50 * RATE, np.int16), RATE, format="FLAC")
    live = recognizer.open_stream(lease, AudioFormat(), StreamOptions(), Heard())
    steps = live.accept(flac.getvalue())
    assert len(flac.getvalue()) < 20_000
    assert [live.encoding, next(steps), live.encoding] == [Encoding.AUTO, None, Encoding.FLAC]
    assert 0 < live.cursors.received_ms <= 500
    assert run(steps) > 90
    run(live.finish())
    assert live.cursors.received_ms == 50_000


def test_what_comes_after_a_single_utterance_is_not_looked_at(scripted: Scripted) -> None:
    recognizer = scripted.start()
    lease = recognizer.pool.request().result(timeout=0)
    heard = Heard()
    live = recognizer.open_stream(lease, MONO, StreamOptions(single_utterance=True), heard, max_audio_s=10)
    run(live.accept(SPEECH + PAUSE))
    received_ms = live.cursors.received_ms
    run(live.accept(bytes(2 * RATE * 60)))
    run(live.finish())
    assert live.cursors.received_ms == received_ms
    scripted.model.entered()
    scripted.model.go()
    assert len(heard.finals()) == 1


def test_a_stream_of_something_else(scripted: Scripted) -> None:
    recognizer = scripted.start()
    lease = recognizer.pool.request().result(timeout=0)
    with pytest.raises(InvalidOption):
        recognizer.open_stream(lease, AudioFormat(separate_channels=True), StreamOptions(), Heard())
    live = recognizer.open_stream(lease, AudioFormat(), StreamOptions(), Heard())  # the decoder is still to be had
    with pytest.raises(BadAudio):
        run(live.accept(b"this is no audio at all"))
    closed = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live._reader, "close", closed.set)
        live.close()
    assert closed.is_set()
    live.close()
    live.close()


# Files, with a scripted model.


class Blocks:
    """A recording in blocks of a second, and what is to happen before each."""

    channels = 1

    def __init__(self, blocks: Iterator[NDArray[np.int16]]) -> None:
        self._blocks = blocks

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        return self._blocks

    @property
    def audio(self) -> FileAudio:
        return cast("FileAudio", self)


def seconds_of(pcm: bytes) -> Iterator[NDArray[np.int16]]:
    for start in range(0, len(pcm), 2 * RATE):
        yield np.frombuffer(pcm[start : start + 2 * RATE], "<i2").reshape(1, -1)


class Running:
    """A transcription in a thread of its own."""

    def __init__(self, recognizer: Recognizer, blocks: Iterator[NDArray[np.int16]], **more: Any) -> None:
        self.cancelled = threading.Event()
        self._pool = ThreadPoolExecutor(1)

        def run() -> FileResult:
            with recognizer.pool.lend(timeout=WAIT_S) as lease:
                return recognizer.transcribe(
                    lease, Blocks(blocks).audio, StreamOptions(), cancelled=self.cancelled, **more
                )

        self._future = self._pool.submit(run)

    def result(self) -> FileResult:
        self._pool.shutdown()
        return self._future.result(timeout=WAIT_S)


def test_a_file_s_finals_are_sorted_by_time(scripted: Scripted) -> None:
    recognizer = scripted.start(max_batch=1)
    running = Running(recognizer, seconds_of((SPEECH + 2 * PAUSE) * 3))
    for _ in range(3):
        scripted.model.entered()
        scripted.model.go()
    result = running.result()
    starts = [final.start_ms for final in result.finals]
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert [final.segment for final in result.finals] == [0, 1, 2]
    assert recognizer.pool.snapshot().busy == 0


def test_a_file_that_is_cancelled_while_it_waits(scripted: Scripted) -> None:
    recognizer = scripted.start()
    running = Running(recognizer, seconds_of(SPEECH))
    scripted.model.entered()
    running.cancelled.set()
    with pytest.raises(Cancelled):
        running.result()
    assert recognizer.pool.snapshot().busy == 0
    scripted.model.go()
    lease, live, heard = opened(recognizer)  # the decoder that was taken from it
    run(live.accept(SPEECH))
    run(live.finish())
    scripted.model.entered()
    scripted.model.go()
    assert len(heard.finals()) == 1
    lease.release()


def test_a_file_that_is_cancelled_while_it_is_read(scripted: Scripted) -> None:
    recognizer = scripted.start()
    read: queue.SimpleQueue[int] = queue.SimpleQueue()
    begun = threading.Event()

    def blocks() -> Iterator[NDArray[np.int16]]:
        for at in range(1_000):
            read.put(at)
            if at == 3:
                begun.wait(WAIT_S)
            yield np.zeros((1, RATE), np.int16)

    running = Running(recognizer, blocks())
    for at in range(4):
        assert read.get(timeout=WAIT_S) == at
    running.cancelled.set()
    begun.set()
    with pytest.raises(Cancelled):
        running.result()
    assert read.empty()


def test_a_file_whose_batch_fails(scripted: Scripted) -> None:
    running = Running(scripted.start(), seconds_of(SPEECH))
    scripted.model.entered()
    fault = RuntimeError("the model fell over")
    scripted.model.fail(fault)
    with pytest.raises(RuntimeError) as caught:
        running.result()
    assert caught.value is fault


def test_a_file_too_long(scripted: Scripted) -> None:
    recognizer = scripted.start()
    silence = bytes(2 * RATE * 3)
    assert Running(recognizer, seconds_of(silence), max_audio_s=3.0).result().audio_ms == 3_000
    with pytest.raises(AudioTooLong, match=r"limit of 2\.9 s"):
        Running(recognizer, seconds_of(silence), max_audio_s=2.9).result()
    assert recognizer.pool.snapshot().busy == 0


def test_a_file_is_read_only_while_there_is_room(scripted: Scripted) -> None:
    recognizer = scripted.start(max_batch=1)
    utterance = SPEECH + 2 * PAUSE
    waiting: list[int] = []
    full = threading.Event()

    def blocks() -> Iterator[NDArray[np.int16]]:
        for at, block in enumerate(seconds_of(utterance * 40)):
            waiting.append(recognizer.waiting()["cpu"]["file"])
            if (at + 1) * 2 * RATE > PENDING_SEGMENTS * len(utterance):
                full.set()  # with this block that many wait, and it goes on only when one is answered
            yield block

    running = Running(recognizer, blocks())
    assert full.wait(WAIT_S)
    for _ in range(40):
        scripted.model.entered()
        scripted.model.go()
    assert len(running.result().finals) == 40
    assert PENDING_SEGMENTS - 2 <= max(waiting) < PENDING_SEGMENTS  # one is in the model
