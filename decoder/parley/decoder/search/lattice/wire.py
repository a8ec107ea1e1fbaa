"""Batches and results as bytes, between a process and its lattice search. Knows the shapes, not what is searched.

A message is a length, a JSON object and the bytes of an array, if one goes along. Nothing in it can be run.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from parley.decoder.search.ctc import Path
from parley.decoder.search.lattice.lattice import Lattice, LatticeResult
from parley.decoder.values import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

    from numpy.typing import NDArray

HEAD = struct.Struct("<QQ")  # bytes of JSON, bytes of the array
MOST_BYTES = 1 << 32


def send(stream: IO[bytes], message: Mapping[str, Any], array: NDArray[np.float32] | None = None) -> None:
    """array: (rows, frames, tokens)."""
    if array is not None:
        message = {**message, "shape": array.shape}
    text = json.dumps(message).encode()
    body = memoryview(b"") if array is None else np.ascontiguousarray(array, np.float32).data.cast("B")
    stream.write(HEAD.pack(len(text), len(body)))
    stream.write(text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """Raises EOFError if the other side has gone."""
    text, body = HEAD.unpack(_exactly(stream, HEAD.size))
    if text + body > MOST_BYTES:
        raise EOFError(f"got a message of {text + body} bytes")
    message: dict[str, Any] = json.loads(_exactly(stream, text))
    if not body:
        return message, None
    return message, np.frombuffer(_exactly(stream, body), np.float32).reshape(message["shape"])


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count:
        got = stream.readinto(view[at:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError("the other side has gone")
        at += got
    return data


def packed(results: Sequence[LatticeResult]) -> list[dict[str, Any]]:
    return [
        {
            "paths": [asdict(path) for path in result.paths],
            "lattice": None if result.lattice is None else result.lattice.as_dict(),
        }
        for result in results
    ]


def unpacked(rows: Sequence[Mapping[str, Any]]) -> list[LatticeResult]:
    return [
        LatticeResult(
            tuple(_path(path) for path in row["paths"]),
            None if row["lattice"] is None else Lattice.from_dict(row["lattice"]),
        )
        for row in rows
    ]


def _path(values: Mapping[str, Any]) -> Path:
    return Path(
        tokens=tuple(values["tokens"]),
        spans=tuple((start, end) for start, end in values["spans"]),
        log_probs=tuple(values["log_probs"]),
        scores=Scores(**values["scores"]),
        confidences=tuple(values["confidences"]),
    )
