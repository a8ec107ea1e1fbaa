"""What a device's errors mean, by their texts: torch and onnxruntime have no classes for it. Knows neither of them."""

from __future__ import annotations

SHORT = (
    "out of memory",
    "can't allocate memory",
    "failed to allocate memory",
    "alloc_failed",  # cuBLAS, cuDNN, cuFFT
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "smaller than requested bytes",  # onnxruntime's arena
    "unable to find an engine",  # cuDNN, for want of memory to work in
)
# CUDA's own texts of those errors after which every other call in the process fails as well.
LOST = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
    "hardware stack error",
    "invalid program counter",
    "global/shared address space",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "invalid access of peer gpu memory",
    "driver shutting down",
    "context is destroyed",
    "invalid device context",
    "no cuda-capable device",
    "busy or unavailable",
    "the mps server",
    "unknown error",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device had too little memory for what was asked: less may fit."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in SHORT)


def lost_by(error: Exception) -> str | None:
    """The line that says that the card will not work again in this process; None if the error says nothing of it."""
    for line in str(error).splitlines():
        lower = line.lower()
        if "cuda" in lower and any(sign in lower for sign in LOST):
            return line.strip()
    return None
