"""Which extra of the distribution a command lacks. Knows packages by their import names, and imports none."""

from __future__ import annotations

# What each extra brings, by the names it is imported under; pyproject.toml lists the packages, a test compares. That of
# a protocol is not here: a node looks for it before it starts, and refuses the setting.
MODULES = {
    "node": {
        "av", "grpc_channelz", "grpc_reflection", "grpc_status", "numpy", "onnxruntime", "prometheus_client",
        "pydantic", "soxr", "structlog", "text_to_num", "tomli", "webrtcvad",
    },
    "first-pass": {"kaldi_native_fbank", "numba", "safetensors", "torch"},
    "models": {"numpy", "onnx", "onnxruntime", "tomli"},
    "train": {"numba", "numpy", "pocketsphinx", "safetensors", "tomli"},
}  # fmt: skip

# The commands that are tools of their own, and the extras that each may want, its own first.
WANTED = {
    "serve": ("node", "first-pass"),
    "capacity": ("node", "first-pass"),
    "lm": ("train", "node", "first-pass"),
    "graph": ("train",),
    "models": ("models", "train"),
}


def lacking(command: str, missing: str | None) -> str | None:
    """The extra that brings a module that was not found; None if none that the command wants does."""
    return next((extra for extra in WANTED[command] if missing in MODULES[extra]), None)


def advice(extra: str, missing: str | None) -> str:
    """What helps, in one line."""
    return f"got no package {missing}, expected it: pip install 'parley-asr[{extra}]'"
