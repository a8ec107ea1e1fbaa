"""The second pass: an attention encoder-decoder over whole utterances, batched. Knows samples and words, not streams.

One `SecondPass` a device, used by that device's thread only. `decode` is a generator that gives control back after
every call of the model, so that a batch of files can stand aside for a live call's final.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnxruntime as ort

from parley.decoder.device import CPU
from parley.decoder.device_errors import is_out_of_memory
from parley.decoder.errors import ModelError, OutOfMemory
from parley.decoder.models.alignment import align, share_on_path, spread
from parley.decoder.search.autoregressive import Beam, Decoded
from parley.decoder.text.vocabulary import Vocabulary, timed_words
from parley.decoder.values import Hypothesis, Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from parley.decoder.device import Device
    from parley.decoder.model_folder import ModelFolder

    Tensors: TypeAlias = dict[str, ort.OrtValue]

SHRINK_AT = 0.5  # finished utterances leave the batch when this share of it or less is still open
RECEPTIVE_SAMPLES = 895  # of an encoder frame: 127 + 6 * 64 + 2 * 192
MASKED = -1e9  # added to the attention's score of a padded frame
ENCODER_CALL_S = 12.0  # of audio in one call of the encoder on a CPU
SMALL = frozenset({"log_probs", "next_tokens", "attention"})  # outputs that the search reads: they go to the host
CARD_OPTIONS = {
    # Ten bits of a product's factors are not what a CPU computes with.
    "use_tf32": "0",
    # Every length of audio is a shape of its own, and the default tries all algorithms for each.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Four sessions and torch share the card: none may take twice what it needs.
    "arena_extend_strategy": "kSameAsRequested",
}


@dataclass(frozen=True, slots=True)
class DecodingLimits:
    """How an attention decoder is driven and kept from inventing words: `[decoding]` of model.toml."""

    start_token: int
    end_token: int
    frame_samples: int
    shortest_samples: int
    tokens_per_second: float
    min_log_prob: float
    min_share_on_path: float
    max_spread: float

    @classmethod
    def read(cls, folder: ModelFolder) -> DecodingLimits:
        """Raises ModelError if a value is missing or makes no sense."""
        limits = cls(
            start_token=folder.value("start_token", int, "decoding"),
            end_token=folder.value("end_token", int, "decoding"),
            frame_samples=folder.value("frame_samples", int, "decoding"),
            shortest_samples=folder.value("shortest_samples", int, "decoding"),
            tokens_per_second=folder.value("tokens_per_second", float, "decoding"),
            min_log_prob=folder.value("min_log_prob", float, "decoding"),
            min_share_on_path=folder.value("min_share_on_path", float, "decoding"),
            max_spread=folder.value("max_spread", float, "decoding"),
        )
        for name in ("frame_samples", "shortest_samples", "tokens_per_second"):
            if not getattr(limits, name) > 0:
                raise folder.fault(f"decoding.{name}: got {getattr(limits, name)}, expected more than 0")
        return limits


class SecondPass:
    """Moonshine's four graphs on one device; parley.training.models.moonshine says what goes in and out of them."""

    def __init__(self, folder: ModelFolder, device: Device = CPU, threads: int = 0) -> None:
        """device: the CPU or a card. threads: cores a call of the model may use, 0 for all. Raises ModelError."""
        self.info = folder.info
        self._limits = DecodingLimits.read(folder)
        self._vocabulary = Vocabulary.read(folder.file("tokens.bin"))
        self._place = (device.kind.value, device.index or 0)
        self._on_cpu = device.on_cpu
        self._encoder_samples = int(ENCODER_CALL_S * self.info.sample_rate)
        names = ("encoder", "decoder", "reorder", "select")
        self._graphs = {name: _session(folder, f"{name}.onnx", device, threads) for name in names}
        self._outputs = {name: [o.name for o in graph.get_outputs()] for name, graph in self._graphs.items()}
        self._cache_names = [i.name for i in self._graphs["reorder"].get_inputs() if i.name != "rows"]
        _, self._heads, _, self._head_width = self._graphs["reorder"].get_inputs()[1].shape

    def decode(
        self,
        batch: Sequence[NDArray[np.int16]],
        *,
        beam: int = 1,
        word_times: bool = True,
        wishes: Sequence[object] = (),  # they are the first pass's
    ) -> Iterator[list[tuple[int, Transcript]]]:
        """Decodes utterances `(n,) int16` together; yields after each call of the model the (row, words) it finished.

        Every row comes exactly once. Raises OutOfMemory, or what onnxruntime raises.
        """
        limits, rate = self._limits, self.info.sample_rate
        lengths = np.array([max(len(samples), limits.shortest_samples) for samples in batch])
        parts = []
        for together in self._encoder_calls(lengths):
            parts.append(self._encoded([batch[row] for row in together], lengths[together]))
            yield []
        cross = parts[0] if len(parts) == 1 else self._joined(parts)

        beams = [Beam(beam, limits.end_token, math.ceil(n / rate * limits.tokens_per_second) + 4) for n in lengths]
        rows = np.arange(len(batch))  # of the caller's batch, by place in the present one
        empty = self._put(np.zeros((len(batch), self._heads, 0, self._head_width), np.float32))
        caches = dict.fromkeys(self._cache_names, empty)
        last = np.full((len(batch), 1), limits.start_token, np.int64)
        top = self._put(np.array([2 * beam]))
        for position in itertools.count():
            step = {"tokens": self._put(last), "position": self._put(np.array([position])), "top": top}
            out = self._run("decoder", step | cross | caches)
            caches = {name: out[f"new_{name}"] for name in self._cache_names}
            tried = out["log_probs"].shape()[0] * out["log_probs"].shape()[1]  # hypotheses in that call
            frames = [self._frames(samples) for samples in lengths[rows].tolist()]
            grown_from, last, ended = self._grown([beams[row] for row in rows], beam, frames, out)
            yield [(int(row), self._transcript(beams[row].n_best(), word_times)) for row in rows[ended]]

            open_at = np.array([at for at, row in enumerate(rows) if not beams[row].finished], np.int64)
            if not len(open_at):
                return
            if len(open_at) <= SHRINK_AT * len(rows):
                rows, grown_from, last = rows[open_at], grown_from[open_at], last[open_at]
                longest = np.array([self._frames(int(lengths[rows].max()))])
                picked = {"rows": self._put(open_at), "frames": self._put(longest)} | cross
                cross = _renamed(self._run("select", picked))
            order = grown_from.ravel()
            if len(order) != tried or (order != np.arange(len(order))).any():
                caches = _renamed(self._run("reorder", {"rows": self._put(order)} | caches))

    def _encoded(self, utterances: Sequence[NDArray[np.int16]], lengths: NDArray[np.int64]) -> Tensors:
        """What the decoder hears of these utterances, in one call of the encoder."""
        padded = np.zeros((len(utterances), lengths.max()), np.int16)
        for row, samples in zip(padded, utterances, strict=True):
            row[: len(samples)] = samples
        return self._run("encoder", {"samples": self._put(padded), "lengths": self._put(lengths)})

    def _grown(
        self, beams: Sequence[Beam], width: int, frames: Sequence[int], out: Tensors
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
        """Takes the rows' beams, each of this width, one token further. frames: of the rows. out: the decoder's.

        Returns for every row's hypotheses those of the call that they grew from and their last tokens, both (rows,
        width), and which rows are finished with it.
        """
        log_probs, tokens, attention = (out[name].numpy() for name in ("log_probs", "next_tokens", "attention"))
        hypotheses = log_probs.shape[1]
        grown_from, last = np.empty((2, len(beams), width), np.int64)
        ended: list[int] = []
        for at, beam in enumerate(beams):
            if beam.finished:  # decoded on for nothing until the batch shrinks
                grown_from[at], last[at] = at * hypotheses, self._limits.end_token
                continue
            parents, last[at] = beam.advance(log_probs[at], tokens[at], attention[at, :, : frames[at]])
            grown_from[at] = at * hypotheses + np.asarray(parents)
            if beam.finished:
                ended.append(at)
        return grown_from, last, ended

    def _encoder_calls(self, lengths: NDArray[np.int64]) -> Iterator[list[int]]:
        """The rows of each call of the encoder. On a CPU a long call gains nothing, and keeps live calls waiting."""
        rows: list[int] = []
        for row in range(len(lengths)):
            if rows and self._on_cpu and lengths[[*rows, row]].max() * (len(rows) + 1) > self._encoder_samples:
                yield rows
                rows = []
            rows.append(row)
        yield rows

    def _joined(self, parts: Sequence[Tensors]) -> Tensors:
        """The encoder's outputs of one call after the other as those of one batch, padded to the longest."""
        joined = {}
        for name in parts[0]:
            arrays = [part[name].numpy() for part in parts]
            axis = 2 if "value" in name else 3  # of the frames
            shape = list(arrays[0].shape)
            shape[0], shape[axis] = sum(len(array) for array in arrays), max(array.shape[axis] for array in arrays)
            whole = np.full(shape, MASKED if name == "cross_bias" else 0.0, np.float32)
            at = 0
            for array in arrays:
                inside = [slice(at, at + len(array)), *(slice(size) for size in array.shape[1:])]
                whole[tuple(inside)] = array
                at += len(array)
            joined[name] = self._put(whole)
        return joined

    def _frames(self, samples: int) -> int:
        return (samples - RECEPTIVE_SAMPLES) // self._limits.frame_samples + 1

    def _transcript(self, n_best: Sequence[Decoded], word_times: bool) -> Transcript:
        hypotheses: dict[str, Hypothesis] = {}  # by text: it may be cut into tokens in several ways
        for decoded in n_best:
            hypothesis = self._hypothesis(decoded, word_times)
            if hypothesis is not None:
                hypotheses.setdefault(hypothesis.text, hypothesis)
            elif not hypotheses:
                break  # over noise the best is made up, and so are the others
        return Transcript(tuple(hypotheses.values()))

    def _hypothesis(self, decoded: Decoded, word_times: bool) -> Hypothesis | None:
        """None if these are no words, or words that the model made up."""
        limits = self._limits
        words = self._vocabulary.words(decoded.tokens)
        if not any(character.isalnum() for text, _ in words for character in text):
            return None
        attention = np.stack(decoded.attention)
        edges = align(attention)
        if (
            decoded.mean_log_prob < limits.min_log_prob
            or share_on_path(attention, edges) < limits.min_share_on_path
            or spread(attention) > limits.max_spread
        ):
            return None
        frame_ms = limits.frame_samples * 1000 / self.info.sample_rate
        timed = timed_words(words, decoded.log_probs, list(itertools.pairwise(edges)), frame_ms) if word_times else ()
        return Hypothesis(" ".join(text for text, _ in words), math.exp(decoded.mean_log_prob), timed)

    def _put(self, array: NDArray[np.generic]) -> ort.OrtValue:
        # To where numpy has it: onnxruntime copies what a card wants, into memory that it keeps. Asked for here, every
        # few bytes would be an allocation on the card, which waits for all that runs there.
        return ort.OrtValue.ortvalue_from_numpy(array)

    def _run(self, name: str, inputs: Tensors) -> Tensors:
        """One call of a graph. Inputs and caches stay on the device; only what the search reads comes to the host."""
        graph, outputs = self._graphs[name], self._outputs[name]
        binding = graph.io_binding()
        try:
            for key, value in inputs.items():
                binding.bind_ortvalue_input(key, value)  # copies it, if it is not on the device
            for output in outputs:
                binding.bind_output(output, *(("cpu", 0) if output in SMALL else self._place))
            graph.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime has one class of error for everything
            if is_out_of_memory(error):
                raise OutOfMemory(str(error)) from error
            raise
        return dict(zip(outputs, binding.get_outputs(), strict=True))


def _renamed(outputs: Tensors) -> Tensors:
    return {name.removeprefix("new_"): value for name, value in outputs.items()}


def _session(folder: ModelFolder, name: str, device: Device, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between two calls take the cores from the event loop, and gain nothing alone.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
    if not device.on_cpu:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(device.index or 0), **CARD_OPTIONS}))
        with contextlib.redirect_stdout(sys.stderr):  # it prints
            ort.preload_dlls()  # CUDA's libraries as pip installs them are on no path
    path = folder.file(name)
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime has one class of error for everything
        raise ModelError(f"{path}: onnxruntime cannot load it: {error}") from error
    if session.get_providers()[0] != providers[0][0]:
        raise ModelError(f"{device}: asked onnxruntime for {providers[0][0]}, got {session.get_providers()[0]}")
    return session
