"""Running a model over text and recording what its blocks do.

Each window of tokens runs alone, op by op, and a value is dropped after its last use: what is in
memory is one window's activations, the weights, and the counts. The head is not computed.
"""

from __future__ import annotations

import functools
import itertools
import math
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from enum import Enum, auto
from pathlib import Path

import numpy as np
import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from sparsecomp.errors import SparsecompError
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.passes.base import function
from sparsecomp.passes.blocks import AttentionBlock, HeadBlock
from sparsecomp.reference.evaluate import Derived, Scope, Weights, execute, needed, weight_of

from . import recordings
from .bits import pack
from .histogram import Histogram
from .opened import Opened, OpenMlp, open_mlps
from .recordings import AttentionRecord, Entries, Recordings, RowsWriter


class Moments(Enum):
    """Which second moments are recorded."""

    NONE = auto()
    MLP_INPUTS = auto()
    ALL = auto()
    """Of what MLPs and attentions read, of neurons and of heads."""


PIECE = 2048
"""Numbers of a row whose moments are recorded together, but for an MLP's inputs: of the neurons of
a large model all would not fit into memory."""
FIRST_TOKEN = 10
"""As many times as another token counts the first of a window in second moments: most heads rest on
it (attention sinks, arXiv 2309.17453), so an error there reaches all that comes after. SmolLM2 with
all its linears in 5 bits, rounded by such moments, costs 0.028 nats a token; with 1 in place of 10
0.047, with 100 0.029; with moments of 24 windows, tokens weighed by their gradients, 0.025 (in 6
bits no less than without)."""
FIRST_OF_KEYS = 100
"""The same where keys and values are made, which every later token reads. SmolLM2's values in 6
bits cost 0.0007 nats a token so, 0.0011 with 10, 0.0029 with 1; its keys 0.0003 with 10 or 100, its
queries more with 100 than with 10."""


def collect(
    module: ModuleOp,
    weights: Weights,
    windows: Sequence[np.ndarray],
    directory: Path,
    key: str,
    *,
    modules: Collection[str] | None = None,
    moments: Moments = Moments.NONE,
    observer: Observer | None = None,
) -> Recordings:
    """Record the blocks of @forward (after raise-head) over windows of token ids.

    Only blocks of `modules` are recorded (None: all), and such second `moments` as are asked for.
    `directory` is given to this alone: what it holds under the same `key` is taken as it is, all
    else in it is replaced. `key` stands for whatever decides the activations: model, text, blocks.

    Raises SparsecompError, naming the module, when an activation is not finite, and when the
    directory cannot be written.
    """
    found = recordings.load(directory, key)
    if found is None:
        try:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            opened = open_mlps(module)
            given = observer or SilentObserver()
            _record(opened, weights, windows, directory, key, modules, moments, given)
        except OSError as error:
            raise SparsecompError(f"{directory}: cannot be written: {error.strerror}") from error
        found = recordings.load(directory, key)
        if found is None:
            raise SparsecompError(f"{directory}: changed while it was written; run again")
    return found


def _record(
    opened: Opened,
    weights: Weights,
    windows: Sequence[np.ndarray],
    directory: Path,
    key: str,
    modules: Collection[str] | None,
    moments: Moments,
    observer: Observer,
) -> None:
    positions = max(len(window) for window in windows)
    derived, cached = Derived(positions), functools.cache(weights)
    mlps = [m for m in opened.mlps if modules is None or m.module in modules]
    attentions = [a for a in opened.attentions if modules is None or a.module in modules]
    heads = [h for h in opened.heads if modules is None or h.module in modules]
    rows = sum(len(window) for window in windows)
    observer.stage(
        "activations", f"{len(mlps) + len(attentions) + len(heads)} blocks, {rows} tokens"
    )
    with ExitStack() as files:
        recorder = _Recorder(directory, files)
        scope = Scope(positions, cached, derived)
        for mlp in mlps:
            recorder.add_mlp(mlp, scope)
            if moments is not Moments.NONE:
                recorder.add_moments(mlp.module, "moments", mlp.input, whole=True)
            if moments is Moments.ALL:
                recorder.add_moments(mlp.module, "neuron_moments", mlp.neurons)
        for attention in attentions:
            recorder.add_attention(attention, scope)
            if moments is Moments.ALL:
                recorder.add_moments(attention.module, "moments", attention.input)
                recorder.add_moments(attention.module, "head_moments", attention.op.result)
        for head in heads:
            recorder.add_head(head)
        block = function(opened.module, "forward").body.block
        ops = needed(list(recorder.takers), dict.fromkeys(block.args, None))
        for done, window in enumerate(windows, start=1):
            ids = torch.from_numpy(window.astype(np.int64))
            given = (ids, torch.arange(len(ids)))
            bindings: dict[SSAValue, torch.Tensor] = dict(zip(block.args, given, strict=True))
            execute(ops, [], bindings, Scope(len(ids), cached, derived), recorder.watch)
            observer.progress(done, len(windows))
    entries = Entries(
        rows,
        {mlp.module: mlp.units for mlp in mlps},
        {attention.module: attention.units for attention in attentions},
        {head.module: head.units for head in heads},
        {name: writer.entry() for name, writer in recorder.rows.items()},
    )
    counts = {name: histogram.counts for name, histogram in recorder.histograms.items()}
    sums = {name: sum / rows for name, sum in recorder.moments.items()}
    recordings.save(directory, key, entries, counts | sums)


Taker = Callable[[torch.Tensor], None]


class _Recorder:
    """Who takes which values of the graph, and where to."""

    def __init__(self, directory: Path, files: ExitStack):
        self.takers: dict[SSAValue, list[tuple[str, Taker]]] = {}
        """By value: the module it is recorded for, and what is done with it."""
        self.rows: dict[str, RowsWriter] = {}
        self.histograms: dict[str, Histogram] = {}
        self.moments: dict[str, torch.Tensor] = {}
        self._directory = directory
        self._files = files

    def watch(self, value: SSAValue, tensor: torch.Tensor) -> None:
        for module, take in self.takers.get(value, ()):
            # A sum is finite only when all its terms are.
            if not torch.isfinite(tensor.sum()):
                kind = "NaN" if torch.isnan(tensor).any() else "an infinity"
                raise SparsecompError(
                    f"activations of {module}: hold {kind}; such a model cannot be calibrated, "
                    "compile it with sparsity off"
                )
            take(tensor)

    def add_mlp(self, mlp: OpenMlp, scope: Scope) -> None:
        norms = weight_of(mlp.down, mlp.down.weight.string_value(), scope).norm(dim=0)
        values = self._histogram(f"{mlp.module}.values")
        self._take(mlp.neurons, mlp.module, lambda x: values.add(x.abs() * norms))
        if mlp.exact_zeros:
            inputs = self._writer(f"{mlp.module}.inputs", torch.bfloat16)
            labels = self._writer(f"{mlp.module}.labels", torch.uint8)
            self._take(mlp.input, mlp.module, inputs.add)
            self._take(mlp.neurons, mlp.module, lambda x: labels.add(pack(x != 0)))
        if mlp.gate is not None:
            gates = self._histogram(f"{mlp.module}.gates")
            self._take(mlp.gate, mlp.module, lambda x: gates.add(x.abs()))

    def add_moments(self, module: str, name: str, value: SSAValue, whole: bool = False) -> None:
        """Of a value (T, ...), its rows in pieces."""

        def add(x: torch.Tensor) -> None:
            rows = x.flatten(1).clone()
            rows[0] *= math.sqrt(FIRST_TOKEN)
            for i, part in enumerate(rows.split(rows.shape[1] if whole else PIECE, 1)):
                key = f"{module}.{name}.{i}"
                self.moments[key] = self.moments.get(key, 0.0) + part.T @ part

        self._take(value, module, add)

    def add_attention(self, attention: AttentionBlock, scope: Scope) -> None:
        inputs = self._writer(f"{attention.module}.inputs", torch.bfloat16)
        norms = self._writer(f"{attention.module}.norms", torch.float32)
        grams = grams_of(attention, scope)
        self._take(attention.input, attention.module, inputs.add)
        self._take(attention.op.result, attention.module, lambda x: norms.add(head_norms(x, grams)))

    def add_head(self, head: HeadBlock) -> None:
        inputs = self._writer(f"{head.module}.inputs", torch.bfloat16)
        self._take(head.input, head.module, inputs.add)

    def _take(self, value: SSAValue, module: str, take: Taker) -> None:
        self.takers.setdefault(value, []).append((module, take))

    def _writer(self, name: str, dtype: torch.dtype) -> RowsWriter:
        writer = RowsWriter(self._directory / name, dtype)
        self._files.enter_context(closing(writer))
        self.rows[name] = writer
        return writer

    def _histogram(self, name: str) -> Histogram:
        self.histograms[name] = Histogram()
        return self.histograms[name]


def moments_for_keys(
    record: AttentionRecord, windows: Sequence[np.ndarray]
) -> tuple[torch.Tensor, ...]:
    """The second moments, in pieces, of what the projections of keys and values read; `windows` are
    those that were recorded."""
    starts = list(itertools.accumulate(map(len, windows[:-1]), initial=0))
    pieces = record.inputs[starts].float().split(PIECE, 1)
    more = (FIRST_OF_KEYS - FIRST_TOKEN) / len(record.inputs)
    return tuple(
        of + more * first.T @ first for of, first in zip(record.moments, pieces, strict=True)
    )


def grams_of(attention: AttentionBlock, scope: Scope) -> torch.Tensor | None:
    """For each head W^T W of its columns of the output matrix, (heads, E, E); None without one.

    The norm of what a head o adds is sqrt(o^T W^T W o): for its size E, not the model's width.
    """
    if attention.output is None:
        return None
    matrix = weight_of(attention.output, attention.output.weight.string_value(), scope)
    heads = matrix.unflatten(1, (attention.units, -1))
    return torch.einsum("ohe,ohf->hef", heads, heads)


def head_norms(heads: torch.Tensor, grams: torch.Tensor | None) -> torch.Tensor:
    """(T, H, E) -> (T, H)."""
    if grams is None:
        return heads.norm(dim=-1)
    moved = torch.einsum("the,hef->thf", heads, grams)
    return (moved * heads).sum(-1).clamp_min(0).sqrt()
