"""Models by the kind that their folder's model.toml says. Knows what each kind needs and is made by, not what it does.

A kind's module is imported when a folder of that kind is loaded: torch takes a second and 200 MB, and a node without a
first pass does without. Another kind is another line of ACOUSTIC or WHOLE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from parley.decoder.errors import ModelError
from parley.decoder.needs import Needs
from parley.decoder.values import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from parley.decoder.device import Device
    from parley.decoder.model_folder import ModelFolder
    from parley.decoder.models.acoustic import AcousticModel
    from parley.decoder.models.passes import WholeModel

K = TypeVar("K", bound="_HasNeeds")


@dataclass(frozen=True, slots=True)
class AcousticKind:
    """A kind of acoustic model. load: see load_acoustic_model. has_int8: its arithmetic may be chosen."""

    load: Callable[[ModelFolder, Device, int, int, int, Precision], AcousticModel]
    needs: Needs
    has_int8: bool = False


@dataclass(frozen=True, slots=True)
class WholeKind:
    """A kind of model for whole utterances. load: see load_whole_model."""

    load: Callable[[ModelFolder, Device, int], WholeModel]
    needs: Needs


class _HasNeeds(Protocol):
    @property
    def needs(self) -> Needs: ...


def load_acoustic_model(
    folder: ModelFolder,
    device: Device,
    slots: int,
    chunk_ms: int,
    threads: int = 1,
    precision: Precision = Precision.FLOAT32,
) -> AcousticModel:
    """The first pass's model of a folder on the CPU or a card. chunk_ms: one of CHUNKS_MS; an export has its
    own. threads: that it may use on a CPU. precision: of our own network; an export has its own.

    Raises ModelError, with what was found and expected.
    """
    kind = _of_kind(ACOUSTIC, folder)
    return kind.load(folder, device, slots, chunk_ms, threads, resolve_precision(folder, device, precision))


def load_whole_model(folder: ModelFolder, device: Device, threads: int = 0) -> WholeModel:
    """The second pass's model of a folder on the CPU or a card. threads: that a call of it may use on a CPU,
    0 for all.

    Raises ModelError, with what was found and expected.
    """
    return _of_kind(WHOLE, folder).load(folder, device, threads)


def resolve_precision(folder: ModelFolder, device: Device, wanted: Precision) -> Precision:
    """What is meant by it, with this model on this device. Raises ModelError for int8 where there is none."""
    if wanted is Precision.FLOAT32:
        return wanted
    from parley.decoder.models.int8 import int8_pays

    kind = ACOUSTIC.get(folder.kind)
    if kind is not None and kind.has_int8 and device.on_cpu and int8_pays():
        return Precision.INT8
    if wanted is Precision.INT8:
        having = ", ".join(name for name, kind in ACOUSTIC.items() if kind.has_int8)
        raise ModelError(
            f"{folder.path}: precision: got int8 for kind {folder.kind} on {device}, expected auto or float32: "
            f"int8 is for kind {having}, on a CPU with VNNI, with a newer torch (2.13 has it)"
        )
    return Precision.FLOAT32


def _of_kind(kinds: Mapping[str, K], folder: ModelFolder) -> K:
    """Raises ModelError if nobody knows the kind, or what it runs on is not installed here."""
    if (kind := kinds.get(folder.kind)) is None:
        raise ModelError(f"{folder.path}: got kind = {folder.kind!r}, expected one of {', '.join(kinds)}")
    if (missing := kind.needs.missing()) is not None:
        raise ModelError(f"{folder.path}: kind = {folder.kind!r}: {missing}")
    return kind


def _streaming_ctc(
    folder: ModelFolder, device: Device, slots: int, chunk_ms: int, threads: int, precision: Precision
) -> AcousticModel:
    from parley.decoder.models.streaming_ctc import StreamingCtc

    return StreamingCtc(folder, device, slots, chunk_ms, threads, precision)


def _wenet(folder: ModelFolder, device: Device, slots: int, chunk_ms: int, threads: int, _: Precision) -> AcousticModel:
    from parley.decoder.models.wenet import WenetModel

    return WenetModel(folder, device, slots, chunk_ms, threads)


def _zipformer(
    folder: ModelFolder, device: Device, slots: int, chunk_ms: int, threads: int, _: Precision
) -> AcousticModel:
    from parley.decoder.models.zipformer import ZipformerModel

    return ZipformerModel(folder, device, slots, chunk_ms, threads)


def _moonshine(folder: ModelFolder, device: Device, threads: int) -> WholeModel:
    from parley.decoder.models.moonshine import SecondPass

    return SecondPass(folder, device, threads)


NETWORK, EXPORT = Needs("first-pass", ("torch", "safetensors")), Needs("first-pass", ("torch", "kaldi_native_fbank"))
ACOUSTIC = {
    "streaming-ctc": AcousticKind(_streaming_ctc, NETWORK, has_int8=True),
    "wenet": AcousticKind(_wenet, EXPORT),
    "zipformer": AcousticKind(_zipformer, EXPORT),
}
WHOLE = {"moonshine": WholeKind(_moonshine, Needs("node", ("onnxruntime",)))}
