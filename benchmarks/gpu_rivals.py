"""What programs are measured against on a GPU: torch, and a kernel that skips small inputs.

Both are one decoder step of a model's shape in bf16, with random weights, captured in a CUDA graph
for a context of fixed length: no masks, no growing shapes, queries, keys and values in one product,
gate and up in another. That is the best that torch can be given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from torch.nn import functional as F
from transformers import PretrainedConfig

from gpu_kernels import read, skipping_gemv

Linear = Callable[["Matrix", Tensor], Tensor]
BLOCK_OUTPUTS, BLOCK_INPUTS, SPLIT = 256, 16, 1024
READ_BLOCK = 4096
READ_BLOCKS = 16


@dataclass
class Matrix:
    """(outputs, inputs) with a bias. `share` of its columns are read where inputs are skipped."""

    weight: Tensor
    bias: Tensor | None
    share: float = 1.0
    columns: Tensor | None = None
    """The weight transposed, (inputs, outputs), where its columns are skipped."""
    threshold: Tensor | None = None
    """Inputs up to this magnitude are skipped, (1,): found from the first input."""


@dataclass(frozen=True)
class Layer:
    queries: Matrix
    """And keys and values."""
    output: Matrix
    up: Matrix
    """And the gate before it, where there is one."""
    down: Matrix


class Decoder:
    """A dense decoder of a config's shape: OPT's, or Llama's where it has a gate."""

    def __init__(self, config: PretrainedConfig, context: int, device: str = "cuda") -> None:
        """`context` is the longest."""
        self.gated = config.model_type == "llama"
        self.heads = config.num_attention_heads
        neurons = config.intermediate_size if self.gated else config.ffn_dim
        with torch.device(device):
            self._allocate(config, neurons, context)

    def _allocate(self, config: PretrainedConfig, neurons: int, context: int) -> None:
        hidden = config.hidden_size
        self.embeddings = _random(config.vocab_size, hidden)
        self.head = Matrix(
            _random(config.vocab_size, hidden) if self.gated else self.embeddings, None
        )
        self.norm = torch.ones(hidden, dtype=torch.bfloat16)
        self.layers = [
            Layer(
                self._matrix(3 * hidden, hidden),
                self._matrix(hidden, hidden),
                self._matrix(neurons * (2 if self.gated else 1), hidden),
                self._matrix(hidden, neurons),
            )
            for _ in range(config.num_hidden_layers)
        ]
        shape = (config.num_hidden_layers, 2, 1, self.heads, context, hidden // self.heads)
        self.cache = torch.randn(shape, dtype=torch.bfloat16)
        self.angles = torch.randn(2, 1, hidden // self.heads, dtype=torch.bfloat16)
        self.token = torch.zeros(1, dtype=torch.int64)

    def _matrix(self, outputs: int, inputs: int) -> Matrix:
        bias = None if self.gated else torch.zeros(outputs, dtype=torch.bfloat16)
        return Matrix(_random(outputs, inputs), bias)

    def step(self, context: int, linear: Linear, compiled: bool) -> Tensor:
        """Logits of a token at position context - 1."""
        before, after = self._compiled if compiled else (self._before, self._after)
        x = F.embedding(self.token, self.embeddings)
        for layer, cache in zip(self.layers, self.cache, strict=True):
            q, k, v = before(x, layer.queries, linear)
            cache[0, :, :, context - 1], cache[1, :, :, context - 1] = k, v
            keys, values = cache[0, :, :, :context], cache[1, :, :, :context]
            mixed = F.scaled_dot_product_attention(q[:, :, None], keys, values)
            x = after(x, mixed.reshape(1, -1), layer.output, layer.up, layer.down, linear)
        return F.linear(self._normed(x), self.head.weight).float()

    @functools.cached_property
    def _compiled(self) -> tuple[Callable[..., tuple[Tensor, ...]], Callable[..., Tensor]]:
        """What comes before and after attention, each compiled once for all layers."""
        return (
            torch.compile(self._before, dynamic=False, mode="max-autotune-no-cudagraphs"),
            torch.compile(self._after, dynamic=False, mode="max-autotune-no-cudagraphs"),
        )

    def _before(self, x: Tensor, queries: Matrix, linear: Linear) -> tuple[Tensor, ...]:
        q, k, v = linear(queries, self._normed(x)).view(3, 1, self.heads, -1).unbind(0)
        if self.gated:
            q, k = self._rotated(q), self._rotated(k)
        return q, k, v

    def _after(
        self, x: Tensor, mixed: Tensor, output: Matrix, up: Matrix, down: Matrix, linear: Linear
    ) -> Tensor:
        x = x + linear(output, mixed)
        neurons = linear(up, self._normed(x))
        if self.gated:
            gate, value = neurons.chunk(2, -1)
            neurons = F.silu(gate) * value
        else:
            neurons = F.relu(neurons)
        return x + linear(down, neurons)

    def _normed(self, x: Tensor) -> Tensor:
        if self.gated:
            return F.rms_norm(x, self.norm.shape, self.norm)
        return F.layer_norm(x, self.norm.shape, self.norm, self.norm)

    def _rotated(self, x: Tensor) -> Tensor:
        cos, sin = self.angles
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat((-second, first), -1) * sin

    def bytes(self, context: int) -> int:
        """What a step reads of weights, keys and values, by the shares."""
        matrices = [
            m for layer in self.layers for m in (layer.queries, layer.output, layer.up, layer.down)
        ]
        weights = sum(2 * m.weight.numel() * m.share for m in [*matrices, self.head])
        layers, _, _, heads, _, width = self.cache.shape
        return round(weights) + 4 * layers * heads * context * width

    def skip(self, share: float) -> None:
        """From here on `share` of the inputs are read in the products of MLPs."""
        for layer in self.layers:
            for matrix in (layer.up, layer.down):
                if matrix.columns is None and share < 1:
                    matrix.columns = matrix.weight.T.contiguous()
                matrix.share, matrix.threshold = share, None


def _random(outputs: int, inputs: int) -> Tensor:
    weight = torch.empty(outputs, inputs, dtype=torch.bfloat16)
    return weight.normal_(std=inputs**-0.5)


def capture(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """What replays a step, and the logits that it leaves."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        logits = step()
    return graph.replay, logits


def dense(matrix: Matrix, x: Tensor) -> Tensor:
    return F.linear(x, matrix.weight, matrix.bias)


# ---- inputs below a threshold are skipped (TEAL, arXiv 2408.14690) ----


def skipping(matrix: Matrix, x: Tensor) -> Tensor:
    if matrix.share == 1 or matrix.columns is None:
        return dense(matrix, x)
    if matrix.threshold is None:
        matrix.threshold = x.abs().float().quantile(1 - matrix.share).reshape(1)
    inputs, outputs = matrix.columns.shape
    sums = torch.zeros(1, outputs, dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(outputs, BLOCK_OUTPUTS), triton.cdiv(inputs, SPLIT))
    skipping_gemv[grid](
        x, matrix.columns, sums, matrix.threshold, inputs, outputs, SPLIT, BLOCK_INPUTS,
        BLOCK_OUTPUTS,
    )  # fmt: skip
    y = sums.to(x.dtype)
    return y if matrix.bias is None else y + matrix.bias


# ---- how fast the device reads ----


def read_bandwidth(gigabytes: float = 8.0, sweeps: int = 15) -> list[float]:
    """Bytes a second of a kernel that only reads a buffer far larger than the cache, each sweep."""
    count = int(gigabytes * 1e9) // 4 // READ_BLOCK * READ_BLOCK
    data = torch.ones(count, dtype=torch.float32)
    sums = torch.zeros(count // READ_BLOCK // READ_BLOCKS + 1, dtype=torch.float32)
    found = []
    for _ in range(sweeps + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        read[(len(sums),)](data, sums, count, READ_BLOCK, READ_BLOCKS)
        end.record()
        end.synchronize()
        found.append(4 * count / (begin.elapsed_time(end) / 1e3))
    assert float(sums.sum(dtype=torch.float64)) == count, "the read kernel missed some"
    return found[2:]
