"""The embedded model on real speech and on none: batching, its guards against made-up words, faults."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from parley.decoder.device import Device
from parley.decoder.errors import ModelError, OutOfMemory
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models import moonshine as module
from parley.decoder.models.moonshine import DecodingLimits, SecondPass
from parley.decoder.values import Transcript
from scripts.scoring import WordErrors, count_errors, normalize
from tests.speech import RATE, RECORDINGS, pcm_of, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def samples_of(recording: str, start_s: float = 0.0, seconds: float = 60.0) -> NDArray[np.int16]:
    samples = np.frombuffer(pcm_of(recording), np.int16)
    return samples[int(start_s * RATE) : int((start_s + seconds) * RATE)]


def decode(model: SecondPass, batch: Sequence[NDArray[np.int16]], beam: int = 1) -> list[Transcript]:
    """All transcripts, in the batch's order; each came once."""
    found: dict[int, Transcript] = {}
    for finished in model.decode(batch, beam=beam):
        for row, transcript in finished:
            assert row not in found
            found[row] = transcript
    assert sorted(found) == list(range(len(batch)))
    return [found[row] for row in range(len(batch))]


def text_of(transcript: Transcript) -> str:
    return transcript.hypotheses[0].text if transcript.hypotheses else ""


def same(left: Sequence[Transcript], right: Sequence[Transcript]) -> None:
    """Word for word, time for time, and confidences within 1e-4."""
    for one, other in zip(left, right, strict=True):
        for a, b in zip(one.hypotheses, other.hypotheses, strict=True):
            assert a.text == b.text
            assert a.confidence == pytest.approx(b.confidence, abs=1e-4)
            assert [(w.text, w.start_ms, w.end_ms) for w in a.words] == [
                (w.text, w.start_ms, w.end_ms) for w in b.words
            ]
            assert [w.confidence for w in a.words] == pytest.approx([w.confidence for w in b.words], abs=1e-4)


STRANGERS = (
    samples_of("austen_4.flac"),
    samples_of("austen_2.flac", seconds=0.1),
    samples_of("two_cities.flac", 7.0, 9.0),
    samples_of("austen_5.flac"),
    samples_of("austen_2.flac", seconds=1 / RATE),
    samples_of("austen_2.flac"),
    samples_of("two_cities.flac", 1.0, 0.9),
)


# Words.


def test_known_recordings(second_pass: SecondPass) -> None:
    errors = WordErrors()
    names = [name for name in RECORDINGS if name.startswith("austen")]
    assert len(names) == 5
    for name, transcript in zip(names, decode(second_pass, [samples_of(name) for name in names]), strict=True):
        errors += count_errors(words_of(name), text_of(transcript))
    assert errors.words > 50
    assert errors.rate < 0.1


def test_half_a_minute_at_once(second_pass: SecondPass) -> None:
    samples = samples_of("two_cities.flac", seconds=30.0)
    (transcript,) = decode(second_pass, [samples])
    expected = words_of("two_cities.flac").split()
    heard = normalize(text_of(transcript))
    assert count_errors(" ".join(expected[: len(heard)]), " ".join(heard)).rate < 0.2
    assert len(heard) > 60
    words = transcript.hypotheses[0].words
    assert " ".join(word.text for word in words) == text_of(transcript)
    assert words[0].start_ms >= 0
    assert 29_000 < words[-1].end_ms <= 30_000
    assert all(word.start_ms < word.end_ms for word in words)
    assert all(one.end_ms <= other.start_ms for one, other in itertools.pairwise(words))
    assert all(0 < word.confidence <= 1 for word in words)


def test_word_times_tell_two_recordings_apart(second_pass: SecondPass) -> None:
    first, second = samples_of("austen_2.flac"), samples_of("austen_5.flac")
    border_ms = 1000 * len(first) / RATE
    (transcript,) = decode(second_pass, [np.concatenate([first, second])])
    words = transcript.hypotheses[0].words
    ahead = [word.text for word in words if (word.start_ms + word.end_ms) / 2 < border_ms]
    behind = [word.text for word in words if (word.start_ms + word.end_ms) / 2 >= border_ms]
    assert count_errors(words_of("austen_2.flac"), " ".join(ahead)).rate < 0.2
    assert count_errors(words_of("austen_5.flac"), " ".join(behind)).rate < 0.2


@pytest.mark.parametrize("samples", STRANGERS, ids=len)
def test_words_lie_inside_the_audio(second_pass: SecondPass, samples: NDArray[np.int16]) -> None:
    (transcript,) = decode(second_pass, [samples])
    for hypothesis in transcript.hypotheses:
        assert hypothesis.words[-1].end_ms <= 1000 * len(samples) / RATE


def test_without_word_times(second_pass: SecondPass) -> None:
    batch = [samples_of("austen_2.flac")]
    with_times = decode(second_pass, batch)[0].hypotheses[0]
    *_, ((row, transcript),) = (step for step in second_pass.decode(batch, word_times=False) if step)
    assert row == 0
    assert transcript.hypotheses == (replace(with_times, words=()),)


# Batches.


@pytest.mark.parametrize("beam", [1, 3])
def test_strangers_in_a_batch_change_nothing(second_pass: SecondPass, beam: int) -> None:
    together = decode(second_pass, STRANGERS, beam)
    alone = [decode(second_pass, [samples], beam)[0] for samples in STRANGERS]
    same(together, alone)
    assert sum(bool(transcript.hypotheses) for transcript in alone) >= 4


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["never", "always"])
def test_when_the_batch_shrinks_changes_nothing(
    second_pass: SecondPass, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    expected = decode(second_pass, STRANGERS[:4], 2)
    monkeypatch.setattr(module, "SHRINK_AT", share)
    same(decode(second_pass, STRANGERS[:4], 2), expected)


@pytest.mark.parametrize(("samples", "calls"), [(1, 4), (10**9, 1)], ids=["one by one", "at once"])
def test_how_the_encoder_is_called_changes_nothing(
    second_pass: SecondPass, monkeypatch: pytest.MonkeyPatch, samples: int, calls: int
) -> None:
    batch = [STRANGERS[row] for row in (1, 3, 5, 0)]  # 0.1 s, 3.3 s and 3.0 s go together, the 6 s alone
    rows: list[int] = []
    run = second_pass._run

    def counted(name: str, inputs: module.Tensors) -> module.Tensors:
        if name == "encoder":
            rows.append(len(inputs["lengths"].numpy()))
        return run(name, inputs)

    monkeypatch.setattr(second_pass, "_run", counted)
    expected = decode(second_pass, batch)
    assert rows == [3, 1]
    rows.clear()
    monkeypatch.setattr(second_pass, "_encoder_samples", samples)
    same(decode(second_pass, batch), expected)
    assert len(rows) == calls


def test_control_comes_back_after_every_call_of_the_model(
    second_pass: SecondPass, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    run = second_pass._run

    def counted(name: str, inputs: module.Tensors) -> module.Tensors:
        calls.append(name)
        return run(name, inputs)

    monkeypatch.setattr(second_pass, "_run", counted)
    found: list[int] = []
    for step in second_pass.decode([samples_of("austen_2.flac"), samples_of("austen_5.flac")]):
        assert sum(name in ("encoder", "decoder") for name in calls) == 1
        calls.clear()
        found += [row for row, _ in step]
    assert sorted(found) == [0, 1]


# Beams.


@pytest.mark.parametrize("beam", [2, 10])
def test_the_n_best_are_sorted_and_differ(second_pass: SecondPass, beam: int) -> None:
    for transcript in decode(second_pass, [samples_of("austen_3.flac"), samples_of("austen_5.flac")], beam):
        hypotheses = transcript.hypotheses
        assert 1 < len(hypotheses) <= beam
        confidences = [hypothesis.confidence for hypothesis in hypotheses]
        assert confidences == sorted(confidences, reverse=True)
        assert all(0 < confidence <= 1 for confidence in confidences)
        assert len({hypothesis.text for hypothesis in hypotheses}) == len(hypotheses)
    assert count_errors(words_of("austen_5.flac"), text_of(transcript)).rate < 0.2


def test_no_more_tokens_than_anybody_speaks(model_folder: ModelFolder) -> None:
    decoding = model_folder.config["decoding"] | {"tokens_per_second": 0.5}
    slow = SecondPass(replace(model_folder, config=model_folder.config | {"decoding": decoding}))
    samples = samples_of("austen_2.flac")
    steps = list(slow.decode([samples]))
    assert len(steps) == 1 + math.ceil(len(samples) / RATE * 0.5) + 4
    assert words_of("austen_2.flac").startswith(" ".join(normalize(text_of(steps[-1][0][1]))[:2]))


# Nothing said.


def noises(seconds: float) -> dict[str, NDArray[np.int16]]:
    random = np.random.default_rng(0)
    t = np.arange(int(seconds * RATE)) / RATE
    clicks = np.zeros(len(t))
    clicks[:: RATE // 4] = 20_000
    made = {
        "silence": 0 * t,
        "faint": random.normal(0, 30, len(t)),
        "white": random.normal(0, 3_000, len(t)),
        "loud": random.normal(0, 12_000, len(t)),
        "rumble": np.cumsum(random.normal(0, 100, len(t))) % 2_000,
        "hum": 3_000 * np.sin(2 * np.pi * 50 * t) + 1_500 * np.sin(2 * np.pi * 150 * t),
        "tone": 8_000 * np.sin(2 * np.pi * 1_000 * t),
        "ringing": 5_000 * (np.sin(2 * np.pi * 440 * t) + np.sin(2 * np.pi * 480 * t)) * (t % 2 < 1),
        "clicks": clicks,
        "buzz": 4_000 * np.sign(np.sin(2 * np.pi * 220 * t)),
        "bursts": random.normal(0, 6_000, len(t)) * (np.sin(6 * np.pi * t) > 0.5),
    }
    return {name: np.clip(samples, -32_768, 32_767).astype(np.int16) for name, samples in made.items()}


@pytest.mark.parametrize("seconds", [0.5, 3.0, 8.0])
def test_no_words_are_heard_in_noise(second_pass: SecondPass, seconds: float) -> None:
    made = noises(seconds)
    transcripts = decode(second_pass, list(made.values()))
    assert {name: text_of(each) for name, each in zip(made, transcripts, strict=True)} == dict.fromkeys(made, "")


def test_each_limit_keeps_out_some_noise(model_folder: ModelFolder, second_pass: SecondPass) -> None:
    batch = list(noises(3.0).values())
    limits = DecodingLimits.read(model_folder)
    off = replace(limits, min_log_prob=-math.inf, min_share_on_path=0.0, max_spread=2.0)

    def heard(decoding: Any) -> set[int]:
        try:
            second_pass._limits = decoding
            return {row for row, transcript in enumerate(decode(second_pass, batch)) if transcript.hypotheses}
        finally:
            second_pass._limits = limits

    everything = heard(off)
    assert everything
    for name in ("min_log_prob", "min_share_on_path", "max_spread"):
        assert heard(replace(off, **{name: getattr(limits, name)})) < everything, name


def test_if_the_best_is_made_up_no_other_is_believed(second_pass: SecondPass, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[bool] = []
    hypothesis = second_pass._hypothesis

    def first_refused(*args: Any) -> Any:
        judged.append(True)
        return None if len(judged) == 1 else hypothesis(*args)

    monkeypatch.setattr(second_pass, "_hypothesis", first_refused)
    assert decode(second_pass, [samples_of("austen_2.flac")], beam=3) == [Transcript(())]


def test_a_hypothesis_is_refused_alone_behind_a_good_one(
    second_pass: SecondPass, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [samples_of("austen_2.flac")]
    (whole,) = decode(second_pass, batch, beam=3)
    kept = [True, False, True]
    hypothesis = second_pass._hypothesis
    monkeypatch.setattr(second_pass, "_hypothesis", lambda *args: hypothesis(*args) if kept.pop(0) else None)
    (transcript,) = decode(second_pass, batch, beam=3)
    assert transcript.hypotheses == (whole.hypotheses[0], whole.hypotheses[2])


# Limits.


DECODING = """\
[decoding]
start_token = 1
end_token = 2
frame_samples = 384
shortest_samples = 3200
tokens_per_second = 6.5
min_log_prob = -1.5
min_share_on_path = 0.25
max_spread = 1
"""


def folder_with(decoding: str, path: Path, model_folder: ModelFolder) -> ModelFolder:
    """The embedded model's config, but for how it is decoded."""
    config = model_folder.path / "model.toml"
    (path / "model.toml").write_text(config.read_text().partition("[decoding]")[0] + decoding)
    return ModelFolder.read(path)


def test_limits(tmp_path: Path, model_folder: ModelFolder) -> None:
    limits = DecodingLimits.read(folder_with(DECODING, tmp_path, model_folder))
    assert limits == DecodingLimits(1, 2, 384, 3_200, 6.5, -1.5, 0.25, 1.0)
    assert type(limits.max_spread) is float  # a whole number will do


@pytest.mark.parametrize("line", [line for line in DECODING.splitlines() if "=" in line])
def test_no_limit_may_be_missing(tmp_path: Path, model_folder: ModelFolder, line: str) -> None:
    folder = folder_with(DECODING.replace(line + "\n", ""), tmp_path, model_folder)
    with pytest.raises(ModelError, match=rf"model\.toml: decoding\.{line.split(' ')[0]} is missing$"):
        SecondPass(folder)


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("6.5", '"fast"', "decoding.tokens_per_second: got 'fast', expected a value of type float"),
        ("6.5", "0", "decoding.tokens_per_second: got 0.0, expected more than 0"),
        ("6.5", "nan", "decoding.tokens_per_second: got nan, expected more than 0"),
        ("384", "0", "decoding.frame_samples: got 0, expected more than 0"),
        ("3200", "-3200", "decoding.shortest_samples: got -3200, expected more than 0"),
        ("= 1\n", "= true\n", "decoding.start_token: got True, expected a value of type int"),
        ("[decoding]", "decoding = 3\n[other]", "decoding: got 3, expected a value of type dict"),
        ("[decoding]", "[other]", "decoding is missing"),
    ],
)
def test_bad_limits_are_refused(
    tmp_path: Path, model_folder: ModelFolder, right: str, wrong: str, problem: str
) -> None:
    assert right in DECODING
    folder = folder_with(DECODING.replace(right, wrong, 1), tmp_path, model_folder)
    with pytest.raises(ModelError) as caught:
        SecondPass(folder)
    assert str(caught.value) == f"{tmp_path / 'model.toml'}: {problem}"


# Faults.


@pytest.fixture
def copy(model_folder: ModelFolder, tmp_path: Path) -> ModelFolder:
    """The model's folder, of links that a test can break."""
    for file in model_folder.path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return replace(model_folder, path=tmp_path)


@pytest.mark.parametrize("name", ["tokens.bin", "encoder.onnx", "decoder.onnx", "reorder.onnx", "select.onnx"])
def test_a_missing_file(copy: ModelFolder, name: str) -> None:
    (copy.path / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        SecondPass(copy)


def test_a_file_that_is_cut_off(copy: ModelFolder, model_folder: ModelFolder) -> None:
    (copy.path / "reorder.onnx").unlink()
    (copy.path / "reorder.onnx").write_bytes(model_folder.file("reorder.onnx").read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"reorder\.onnx: onnxruntime cannot load it: ") as caught:
        SecondPass(copy)
    assert caught.value.__cause__ is not None


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
def test_a_device_that_is_not_there(model_folder: ModelFolder) -> None:
    with pytest.raises(
        ModelError, match="cuda:0: asked onnxruntime for CUDAExecutionProvider, got CPUExecutionProvider"
    ):
        SecondPass(model_folder, Device.parse("cuda:0"))


class Failing:
    """A graph that cannot run."""

    def __init__(self, graph: ort.InferenceSession, message: str) -> None:
        self._graph = graph
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def run_with_iobinding(self, binding: object) -> None:
        raise RuntimeError(self._message)


@pytest.mark.parametrize("graph", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 7",
            OutOfMemory,
        ),
        ("CUDA failure 2: out of memory ; GPU=0", OutOfMemory),
        ("std::bad_alloc: bad allocation", OutOfMemory),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", OutOfMemory),
        ("BFCArena: Available memory of 0 is smaller than requested bytes of 256", OutOfMemory),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", RuntimeError),
        ("Non-zero status code returned while running MatMul node", RuntimeError),
    ],
)
def test_no_memory_is_told_from_other_faults(
    second_pass: SecondPass, monkeypatch: pytest.MonkeyPatch, graph: str, message: str, expected: type[Exception]
) -> None:
    monkeypatch.setitem(second_pass._graphs, graph, Failing(second_pass._graphs[graph], message))
    with pytest.raises((OutOfMemory, RuntimeError)) as caught:
        decode(second_pass, [samples_of("austen_2.flac")])
    assert type(caught.value) is expected
    assert str(caught.value) == message
