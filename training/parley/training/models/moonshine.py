"""Rebuilds Moonshine's published ONNX Runtime files as graphs for batched serving. Knows the network, not decoding.

The published files quantize activations with one scale for the whole batch and normalize over padding, so a neighbour
in a batch can change an utterance's words. The graphs built here have the same weights, computed in float32, and
neither flaw; docs/measurements.md says what that did to words and speed:

- `encoder.onnx`: `samples (B, N) int16`, `lengths (B,) int64` -> for each decoder layer i the cross-attention's
  `cross_key_i (B, H, D, F)`, `cross_value_i (B, H, F, D)`, and `cross_bias (B, 1, 1, F)`: 0 on frames, -1e9 on padding.
- `decoder.onnx`: a token of every hypothesis: `tokens (B, M) int64` (M hypotheses an utterance), `position (1,) int64`,
  `top (1,) int64`, the encoder's outputs and `key_i`, `value_i (B * M, H, P, D)` -> `log_probs (B, M, top)`,
  `next_tokens (B, M, top)`, `attention (B, M, F)` and the caches grown by one position.
- `reorder.onnx`: `rows (S,) int64` and the caches -> the caches' rows in that order.
- `select.onnx`: `rows (S,) int64`, `frames (1,) int64`, the encoder's outputs -> those utterances, cut to that length.

Architecture: Jeffries et al. 2024, "Moonshine: Speech Recognition for Live Transcription and Voice Commands".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH, HEADS, LAYERS = 288, 8, 6
HEAD = WIDTH // HEADS
ROTARY = 32  # of a head's 36 dimensions
LONGEST_ENCODER, LONGEST_DECODER = 2048, 512  # frames, tokens: rows of the rotary tables
KERNELS = ((127, 64), (7, 3), (3, 2))  # (width, stride) of the three convolutions
NUMPY_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_}  # by ONNX type number

# Cross-attention heads (layer, head) that follow the speech best: chosen greedily for word starts near those of a
# forced alignment; docs/measurements.md has the figures.
ALIGNMENT_HEADS = ((3, 0), (5, 0), (5, 6))


@dataclass(frozen=True)
class Linear:
    """A published matrix: `quantized (inputs, outputs) uint8`, one scale and zero point, perhaps a bias."""

    quantized: NDArray[np.uint8]
    scale: float
    zero_point: int
    bias: NDArray[np.float32] | None

    def dense(self) -> NDArray[np.float32]:
        shifted = self.quantized.astype(np.int32) - self.zero_point
        return np.asarray(shifted * self.scale, np.float32)


class PublishedFile:
    """The weights in one of the published ORT-format files, by the names of the nodes that use them."""

    def __init__(self, path: Path) -> None:
        from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

        graph = InferenceSession.GetRootAsInferenceSession(path.read_bytes(), 0).Model().Graph()
        self.tensors: dict[str, NDArray[Any]] = {}
        self.inputs: dict[str, list[str]] = {}
        for part in _graphs(graph):
            for index in range(part.InitializersLength()):
                tensor = part.Initializers(index)
                shape = [tensor.Dims(k) for k in range(tensor.DimsLength())]
                raw = tensor.RawDataAsNumpy()
                if not isinstance(raw, int):  # 0: an empty tensor
                    self.tensors[tensor.Name().decode()] = raw.view(NUMPY_TYPES[tensor.DataType()]).reshape(shape)
            for index in range(part.NodesLength()):
                node = part.Nodes(index)
                names = [node.Inputs(k).decode() for k in range(node.InputsLength())]
                self.inputs.setdefault(node.Name().decode(), names)

    def linear(self, node: str) -> Linear:
        names = self.inputs[f"{node}/MatMul_quant"]
        weight = next(name for name in names if name.endswith("_quantized") and name in self.tensors)
        base = weight.removesuffix("_quantized")
        bias = next((self.tensors[name] for name in names if name in self.tensors and "bias" in name), None)
        scale, zero_point = self.tensors[f"{base}_scale"], self.tensors[f"{base}_zero_point"]
        return Linear(self.tensors[weight], float(scale), int(zero_point), bias)

    def norm(self, node: str) -> NDArray[np.float32]:
        """A layer norm's scale; its bias is zero throughout."""
        return self.tensors[self.inputs[f"{node}/LayerNormalization"][1]]

    def find(self, part: str) -> NDArray[Any]:
        (found,) = (value for name, value in self.tensors.items() if part in name)
        return found


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for index in range(graph.NodesLength()):
        node = graph.Nodes(index)
        for k in range(node.AttributesLength()):
            inner = node.Attributes(k).G()
            if inner is not None:
                yield from _graphs(inner)


class Graph:
    """A small builder: a method adds a node, or a constant, and returns its output's name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, shape: list[int | str]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, kind: int, shape: list[int | str]) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, value: object, dtype: Any = None) -> str:
        array = np.asarray(value, dtype)
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def floats(self, value: object) -> str:
        return self.constant(value, np.float32)

    def ops(self, outputs: int, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        names = [f"{kind}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(1, kind, *inputs, **attributes)[0]

    def fused(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.op(kind, *inputs, domain="com.microsoft", **attributes)

    def linear(self, x: str, weight: Linear) -> str:
        """x (..., inputs) -> (..., outputs)."""
        y = self.op("MatMul", x, self.floats(weight.dense()))
        return y if weight.bias is None else self.op("Add", y, self.floats(weight.bias))

    def norm(self, x: str, scale: NDArray[np.float32]) -> str:
        return self.op("LayerNormalization", x, self.floats(scale), axis=-1, epsilon=1e-5)

    def rotary_tables(self, frequencies: NDArray[np.float32], longest: int) -> tuple[str, str]:
        angles = np.arange(longest, dtype=np.float64)[:, None] * frequencies[None, :]
        return self.floats(np.cos(angles)), self.floats(np.sin(angles))

    def save(self, path: Path) -> None:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="parley")
        path.write_bytes(model.SerializeToString())


def build(source: Path, target: Path, step: Callable[[int], object]) -> None:
    """Writes the four graphs into `target` from the two published files in `source`. `step(1)` is called after each."""
    encoder = PublishedFile(source / "encoder_model.ort")
    decoder = PublishedFile(source / "decoder_model_merged.ort")
    for graph in (_encoder(encoder, decoder), _decoder(decoder), _reorder(), _select()):
        graph.save(target / f"{graph.name}.onnx")
        step(1)


def _encoder(weights: PublishedFile, decoder: PublishedFile) -> Graph:
    g = Graph("encoder")
    samples = g.input("samples", TensorProto.INT16, ["B", "N"])
    lengths = g.input("lengths", TensorProto.INT64, ["B"])
    x = g.op("Mul", g.op("Cast", samples, to=TensorProto.FLOAT), g.floats(1 / 32768))
    x = g.op("Unsqueeze", x, g.ints(1))

    valid = lengths
    counts = []
    for width, stride in KERNELS:
        valid = g.op("Add", g.op("Div", g.op("Sub", valid, g.ints(width)), g.ints(stride)), g.ints(1))
        counts.append(valid)

    x = g.op("Tanh", g.op("Conv", x, g.constant(weights.find("conv1.weight")), strides=[KERNELS[0][1]]))
    x = _masked_group_norm(g, x, counts[0], weights)
    for name, (_, stride) in zip(("conv2", "conv3"), KERNELS[1:], strict=True):
        kernel, bias = weights.find(f"{name}.weight"), weights.find(f"{name}.bias")
        x = g.fused("Gelu", g.op("Conv", x, g.constant(kernel), g.constant(bias), strides=[stride]))
    x = g.op("Transpose", x, perm=[0, 2, 1])  # (B, F, WIDTH)

    frames = g.op("Shape", x, start=1, end=2)
    padding = _padding_bias(g, counts[2], frames)  # (B, 1, 1, F)
    tables = g.rotary_tables(_frequencies(weights), LONGEST_ENCODER)
    for layer in range(LAYERS):
        name = f"/layers.{layer}"
        h = g.norm(x, weights.norm(f"{name}/input_layernorm"))
        q, k, v = _query_key_value(g, h, weights, f"{name}/self_attn", g.ints(0), tables)
        q, k, v = (_split_heads(g, part) for part in (q, k, v))
        scores = g.fused("FusedMatMul", q, k, transB=1, alpha=HEAD**-0.5)
        probs = g.op("Softmax", g.op("Add", scores, padding), axis=-1)
        h = _join_heads(g, g.op("MatMul", probs, v))
        x = g.op("Add", x, g.linear(h, weights.linear(f"{name}/self_attn/o_proj")))
        h = g.norm(x, weights.norm(f"{name}/post_attention_layernorm"))
        h = g.fused("Gelu", g.linear(h, weights.linear(f"{name}/mlp/fc1")))
        x = g.op("Add", x, g.linear(h, weights.linear(f"{name}/mlp/fc2")))
    x = g.norm(x, weights.tensors["layer_norm.weight"])

    for layer in range(LAYERS):
        name = f"/model/decoder/layers.{layer}/encoder_attn"
        key = g.op("Reshape", g.linear(x, decoder.linear(f"{name}/k_proj")), g.ints(0, 0, HEADS, HEAD))
        g.output(
            g.op("Transpose", key, perm=[0, 2, 3, 1]), f"cross_key_{layer}", TensorProto.FLOAT, ["B", HEADS, HEAD, "F"]
        )
        value = _split_heads(g, g.linear(x, decoder.linear(f"{name}/v_proj")))
        g.output(value, f"cross_value_{layer}", TensorProto.FLOAT, ["B", HEADS, "F", HEAD])
    g.output(padding, "cross_bias", TensorProto.FLOAT, ["B", 1, 1, "F"])
    return g


def _decoder(weights: PublishedFile) -> Graph:
    g = Graph("decoder")
    tokens = g.input("tokens", TensorProto.INT64, ["B", "M"])
    position = g.input("position", TensorProto.INT64, [1])
    top = g.input("top", TensorProto.INT64, [1])
    cross_bias = g.input("cross_bias", TensorProto.FLOAT, ["B", 1, 1, "F"])
    tables = g.rotary_tables(_frequencies(weights), LONGEST_DECODER)
    shape = g.op("Concat", g.op("Shape", tokens), g.ints(WIDTH), axis=0)  # (B, M, WIDTH)

    x = _embedding(g, weights, g.op("Reshape", tokens, g.ints(-1, 1)))  # (R, 1, WIDTH)
    attention = []
    for layer in range(LAYERS):
        name = f"/model/decoder/layers.{layer}"
        h = g.norm(x, weights.norm(f"{name}/input_layernorm"))
        q, k, v = _query_key_value(g, h, weights, f"{name}/self_attn", position, tables)
        # One position: heads come apart by a reshape alone.
        q, k, v = (g.op("Reshape", part, g.ints(0, HEADS, 1, HEAD)) for part in (q, k, v))
        cache = []
        for kind, new in (("key", k), ("value", v)):
            past = g.input(f"{kind}_{layer}", TensorProto.FLOAT, ["R", HEADS, "P", HEAD])
            grown = g.op("Concat", past, new, axis=2)
            g.output(grown, f"new_{kind}_{layer}", TensorProto.FLOAT, ["R", HEADS, "P + 1", HEAD])
            cache.append(grown)
        probs = g.op("Softmax", g.fused("FusedMatMul", q, cache[0], transB=1, alpha=HEAD**-0.5), axis=-1)
        h = g.op("Reshape", g.op("MatMul", probs, cache[1]), g.ints(0, 1, WIDTH))
        x = g.op("Add", x, g.linear(h, weights.linear(f"{name}/self_attn/o_proj")))

        # Hypotheses of an utterance are the rows of one query, so the utterance's keys and values are read once.
        h = g.norm(x, weights.norm(f"{name}/post_attention_layernorm"))
        q = _split_heads(g, g.op("Reshape", g.linear(h, weights.linear(f"{name}/encoder_attn/q_proj")), shape))
        key = g.input(f"cross_key_{layer}", TensorProto.FLOAT, ["B", HEADS, HEAD, "F"])
        value = g.input(f"cross_value_{layer}", TensorProto.FLOAT, ["B", HEADS, "F", HEAD])
        scores = g.op("Add", g.fused("FusedMatMul", q, key, alpha=HEAD**-0.5), cross_bias)
        probs = g.op("Softmax", scores, axis=-1)  # (B, H, M, F)
        heads = [head for at, head in ALIGNMENT_HEADS if at == layer]
        if heads:
            attention.append(g.op("Gather", probs, g.ints(*heads), axis=1))
        h = g.op("Reshape", _join_heads(g, g.op("MatMul", probs, value)), g.ints(-1, 1, WIDTH))
        x = g.op("Add", x, g.linear(h, weights.linear(f"{name}/encoder_attn/o_proj")))

        h = g.norm(x, weights.norm(f"{name}/final_layernorm"))
        linear, gate = g.ops(2, "Split", g.linear(h, weights.linear(f"{name}/mlp/fc1")), axis=-1, num_outputs=2)
        h = g.op("Mul", g.fused("QuickGelu", gate, alpha=1.0), linear)  # alpha 1: SiLU
        x = g.op("Add", x, g.linear(h, weights.linear(f"{name}/mlp/fc2")))
    logits = g.linear(g.norm(x, weights.norm("/model/decoder/norm")), weights.linear("/proj_out"))  # (R, 1, V)
    best, ids = g.ops(2, "TopK", logits, top, axis=-1)
    log_probs = g.op("Sub", best, g.op("ReduceLogSumExp", logits, g.ints(-1), keepdims=1))
    by_hypothesis = g.op("Concat", g.op("Shape", tokens), top, axis=0)  # (B, M, top)
    g.output(g.op("Reshape", log_probs, by_hypothesis), "log_probs", TensorProto.FLOAT, ["B", "M", "top"])
    g.output(g.op("Reshape", ids, by_hypothesis), "next_tokens", TensorProto.INT64, ["B", "M", "top"])
    together = g.op("Concat", *attention, axis=1)
    g.output(g.op("ReduceMean", together, g.ints(1), keepdims=0), "attention", TensorProto.FLOAT, ["B", "M", "F"])
    return g


def _reorder() -> Graph:
    g = Graph("reorder")
    rows = g.input("rows", TensorProto.INT64, ["S"])
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            cache = g.input(f"{kind}_{layer}", TensorProto.FLOAT, ["R", HEADS, "P", HEAD])
            picked = g.op("Gather", cache, rows, axis=0)
            g.output(picked, f"new_{kind}_{layer}", TensorProto.FLOAT, ["S", HEADS, "P", HEAD])
    return g


def _select() -> Graph:
    g = Graph("select")
    rows = g.input("rows", TensorProto.INT64, ["S"])
    frames = g.input("frames", TensorProto.INT64, [1])

    def pick(name: str, shape: list[int | str], axis: int) -> None:
        whole = g.input(name, TensorProto.FLOAT, ["B", *shape])
        # Rows first: slicing first would copy the rows that are on their way out.
        picked = g.op("Slice", g.op("Gather", whole, rows, axis=0), g.ints(0), frames, g.ints(axis))
        g.output(picked, f"new_{name}", TensorProto.FLOAT, ["S", *shape])

    for layer in range(LAYERS):
        pick(f"cross_key_{layer}", [HEADS, HEAD, "F"], 3)
        pick(f"cross_value_{layer}", [HEADS, "F", HEAD], 2)
    pick("cross_bias", [1, 1, "F"], 3)
    return g


def _masked_group_norm(g: Graph, x: str, valid: str, weights: PublishedFile) -> str:
    """One group over (channels, valid frames): x (B, C, T), valid (B,). Padding does not count."""
    gamma, beta = (weights.tensors[weights.inputs[f"/groupnorm/{node}"][1]] for node in ("Mul", "Add"))
    frames = g.op("Shape", x, start=2, end=3)
    mask = g.op("Cast", _inside(g, valid, frames), to=TensorProto.FLOAT)  # (B, T)
    count = g.op("Mul", g.op("Cast", valid, to=TensorProto.FLOAT), g.floats(WIDTH))
    mean, square = (
        g.op("Div", g.op("ReduceSum", g.op("Mul", over_channels, mask), g.ints(1), keepdims=0), count)
        for over_channels in (g.op(kind, x, g.ints(1), keepdims=0) for kind in ("ReduceSum", "ReduceSumSquare"))
    )
    variance = g.op("Sub", square, g.op("Mul", mean, mean))
    scale = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, g.floats(1e-5))))
    mean, scale = (g.op("Reshape", part, g.ints(-1, 1, 1)) for part in (mean, scale))
    slope = g.op("Mul", scale, g.floats(gamma.reshape(1, -1, 1)))
    offset = g.op("Sub", g.floats(beta.reshape(1, -1, 1)), g.op("Mul", mean, slope))
    return g.op("Add", g.op("Mul", x, slope), offset)


def _query_key_value(
    g: Graph, x: str, weights: PublishedFile, name: str, first_position: str, tables: tuple[str, str]
) -> tuple[str, str, str]:
    """x (R, S, WIDTH) -> three of that shape, the first two turned by position: one matrix and one turn for both."""
    matrix = np.concatenate([weights.linear(f"{name}/{part}_proj").dense() for part in "qkv"], axis=1)
    both, value = g.ops(2, "Split", g.op("MatMul", x, g.floats(matrix)), g.ints(2 * WIDTH, WIDTH), axis=-1)
    turned = g.fused(
        "RotaryEmbedding", both, first_position, *tables,
        interleaved=1, num_heads=2 * HEADS, rotary_embedding_dim=ROTARY,
    )  # fmt: skip
    query, key = g.ops(2, "Split", turned, axis=-1, num_outputs=2)
    return query, key, value


def _inside(g: Graph, valid: str, frames: str) -> str:
    """(B, T) bool: frame < valid."""
    steps = g.op("Range", g.constant(0, np.int64), g.op("Squeeze", frames), g.constant(1, np.int64))
    return g.op("Less", steps, g.op("Unsqueeze", valid, g.ints(1)))


def _padding_bias(g: Graph, valid: str, frames: str) -> str:
    bias = g.op("Where", _inside(g, valid, frames), g.floats(0.0), g.floats(-1e9))
    return g.op("Unsqueeze", bias, g.ints(1, 2))


def _split_heads(g: Graph, x: str) -> str:
    return g.op("Transpose", g.op("Reshape", x, g.ints(0, 0, HEADS, HEAD)), perm=[0, 2, 1, 3])


def _join_heads(g: Graph, x: str) -> str:
    return g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 1, 3]), g.ints(0, 0, WIDTH))


def _frequencies(weights: PublishedFile) -> NDArray[np.float32]:
    shape = (1, ROTARY // 2, 1)
    found = next(t for t in weights.tensors.values() if t.dtype == np.float32 and t.shape == shape)
    return found.reshape(-1)


def _embedding(g: Graph, weights: PublishedFile, tokens: str) -> str:
    name = weights.inputs["/model/decoder/embed_tokens/Gather"][0].removesuffix("_quantized")
    table = g.constant(weights.tensors[f"{name}_quantized"])
    scale = g.floats(weights.tensors[f"{name}_scale"].reshape(()))
    zero = g.constant(weights.tensors[f"{name}_zero_point"].reshape(()))
    return g.op("DequantizeLinear", g.op("Gather", table, tokens, axis=0), scale, zero)
