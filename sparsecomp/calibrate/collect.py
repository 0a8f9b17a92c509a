"""Running a model over text and recording what its blocks do.

Each window of tokens runs alone, op by op, and a value is dropped after its last use: what is in
memory is one window's activations, the weights, and the counts. The head is computed, and all of a
window's activations are kept, where second moments are asked for: see sensitivity.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from enum import Enum, auto
from pathlib import Path

import numpy as np
import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import ReturnOp
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
from .recordings import Entries, Recordings, RowsWriter
from .sensitivity import sensitivities
from .weighed_moments import WeighedMoments


class Moments(Enum):
    """Which second moments are recorded."""

    NONE = auto()
    MLP_INPUTS = auto()
    ALL = auto()
    """Of what MLPs and attentions read, of neurons and of heads."""


PIECE = 2048
"""Numbers of a row whose moments are recorded together, but for an MLP's inputs: of the neurons of
a large model all would not fit into memory."""
SEED = 0
"""Of the tokens that are drawn to weigh others by."""


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
                recorder.add_moments(mlp.module, "moments", mlp.input, mlp.input, whole=True)
            if moments is Moments.ALL:
                recorder.add_moments(mlp.module, "neuron_moments", mlp.neurons, mlp.down.result)
        for attention in attentions:
            recorder.add_attention(attention, scope)
            if moments is Moments.ALL:
                recorder.add_moments_of_linears(attention)
        for head in heads:
            recorder.add_head(head)
        block = function(opened.module, "forward").body.block
        end = block.last_op
        assert isinstance(end, ReturnOp)
        ends = end.operands[:1] if recorder.kept else ()
        wanted = [*recorder.takers, *recorder.kept, *ends]
        ops = needed(wanted, dict.fromkeys(block.args, None))
        for done, window in enumerate(windows, start=1):
            ids = torch.from_numpy(window.astype(np.int64))
            given = (ids, torch.arange(len(ids)))
            bindings: dict[SSAValue, torch.Tensor] = dict(zip(block.args, given, strict=True))
            scope = Scope(len(ids), cached, derived)
            for logits in execute(ops, ends, bindings, scope, recorder.watch):
                recorder.add_weighed(logits)
            observer.progress(done, len(windows))
    entries = Entries(
        rows,
        {mlp.module: mlp.units for mlp in mlps},
        {attention.module: attention.units for attention in attentions},
        {head.module: head.units for head in heads},
        {name: writer.entry() for name, writer in recorder.rows.items()},
    )
    counts = {name: histogram.counts for name, histogram in recorder.histograms.items()}
    recordings.save(directory, key, entries, counts | recorder.moments())


Taker = Callable[[torch.Tensor], None]


class _Recorder:
    """Who takes which values of the graph, and where to."""

    def __init__(self, directory: Path, files: ExitStack):
        self.takers: dict[SSAValue, list[tuple[str, Taker]]] = {}
        """By value: the module it is recorded for, and what is done with it."""
        self.rows: dict[str, RowsWriter] = {}
        self.histograms: dict[str, Histogram] = {}
        self.kept: dict[SSAValue, torch.Tensor | None] = {}
        """What is weighed, and weighed by, at the end of a window."""
        self._weighed: dict[str, WeighedMoments] = {}
        self._generator = torch.Generator().manual_seed(SEED)
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
            take(tensor.detach())
        if value in self.kept:
            self.kept[value] = tensor.requires_grad_()

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

    def add_moments(
        self, module: str, name: str, value: SSAValue, by: SSAValue, whole: bool = False
    ) -> None:
        """Of a value (T, ...), its rows in pieces; tokens weigh what an error in `by` costs."""
        self._weighed[f"{module}.{name}"] = WeighedMoments(value, by, None if whole else PIECE)
        self.kept |= {value: None, by: None}

    def add_moments_of_linears(self, attention: AttentionBlock) -> None:
        names = ("query_moments", "key_moments", "value_moments")
        linears = (attention.query, attention.key, attention.value)
        for name, linear in zip(names, linears, strict=True):
            if linear is not None:
                self.add_moments(attention.module, name, attention.input, linear.result)
        if attention.output is not None:
            heads, output = attention.op.result, attention.output.result
            self.add_moments(attention.module, "head_moments", heads, output)

    def add_weighed(self, logits: torch.Tensor) -> None:
        """At the end of a window: what was kept of it."""
        kept = {value: tensor for value, tensor in self.kept.items() if tensor is not None}
        sources = {of.by: kept[of.by] for of in self._weighed.values()}
        weights = sensitivities(logits, sources, self._generator)
        for of in self._weighed.values():
            of.add(kept[of.value].detach(), weights[of.by])
        self.kept = dict.fromkeys(self.kept)

    def moments(self) -> dict[str, torch.Tensor]:
        """All of them, a piece each."""
        return {
            f"{name}.{i}": piece
            for name, of in self._weighed.items()
            for i, piece in enumerate(of.means())
        }

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
