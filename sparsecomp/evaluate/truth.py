"""What an artifact's selections chose, against what the dense model has active at the same tokens.

The truth of a block: the neurons that are not 0, where the activation gives exact zeros; otherwise
the units that add most to the block's output, as many as the artifact expects to choose; of a head
the 50 largest logits.
Needs the compiler's packages: the truth comes from the reference.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from xdsl.ir import SSAValue

from sparsecomp.calibrate.bits import top, unpack
from sparsecomp.calibrate.collect import grams_of, head_norms
from sparsecomp.calibrate.opened import open_mlps
from sparsecomp.calibrate.sketch import TOP, best
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.logits import Window
from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.passes.base import PassContext, function
from sparsecomp.passes.pipeline import run_pipeline
from sparsecomp.reference.evaluate import Derived, Scope, evaluate, execute, needed, weight_of
from sparsecomp.runtime import Model
from sparsecomp.runtime.artifact import Block, BlockKind


@dataclass(frozen=True)
class Agreement:
    """Of a sparse block over all decoded tokens: the share of its units that were chosen, the share
    of the true ones among them (`recall`), and the share of the chosen that are true (`precision`).

    Recall is 1 where nothing was true, precision where nothing was chosen.
    """

    module: str
    kind: BlockKind
    density: float
    recall: float
    precision: float


@dataclass
class _Counts:
    """Units, over tokens: `hits` were chosen and true."""

    units: int = 0
    chosen: int = 0
    true: int = 0
    hits: int = 0

    def add(self, chosen: torch.Tensor, true: torch.Tensor) -> None:
        self.units += chosen.numel()
        self.chosen += int(chosen.sum())
        self.true += int(true.sum())
        self.hits += int((chosen & true).sum())


class Truth:
    """The dense model in the reference, and the active units of some of its blocks."""

    def __init__(self, model_dir: Path, blocks: Sequence[Block], length: int) -> None:
        """For windows of at most `length` tokens. Raises SparsecompError when it has no such block,
        or the model cannot be read."""
        exported = export_model(ModelDir.open(model_dir))
        weights = functools.cache(exported.weights.get)
        ctx = PassContext(evaluate=evaluate, weights=weights, positions=length, workers=1)
        run_pipeline(exported.module, ctx, stop_after="raise-head")
        opened = open_mlps(exported.module)
        self._args = function(opened.module, "forward").body.block.args
        self._weights, self._derived = weights, Derived(length)
        scope = Scope(length, weights, self._derived)
        self._active: dict[SSAValue, tuple[Block, functools.partial[torch.Tensor]]] = {}
        mlps = {mlp.module: mlp for mlp in opened.mlps}
        attentions = {attention.module: attention for attention in opened.attentions}
        heads = {head.module: head for head in opened.heads}
        known: dict[BlockKind, Collection[str]] = {
            BlockKind.MLP: mlps,
            BlockKind.ATTENTION: attentions,
            BlockKind.HEAD: heads,
        }
        for block in blocks:
            if block.module not in known[block.kind]:
                raise SparsecompError(
                    f"{model_dir}: has no {block.kind} {block.module}; give the model that the "
                    "artifact was compiled from"
                )
            if block.kind is BlockKind.HEAD:
                self._active[heads[block.module].op.result] = block, functools.partial(_largest)
                continue
            if block.kind is BlockKind.ATTENTION:
                attention = attentions[block.module]
                rule = functools.partial(_heads, grams_of(attention, scope), block.density)
                self._active[attention.op.result] = block, rule
                continue
            mlp = mlps[block.module]
            norms = weight_of(mlp.down, mlp.down.weight.string_value(), scope).norm(dim=0)
            rule = functools.partial(_neurons, mlp.exact_zeros, norms, block.density)
            self._active[mlp.neurons] = block, rule

    def active(self, ids: np.ndarray) -> dict[str, torch.Tensor]:
        """By module, which units are active at each token of a window: (tokens, units) bool."""
        found: dict[str, torch.Tensor] = {}

        def watch(value: SSAValue, tensor: torch.Tensor) -> None:
            if value in self._active:
                block, rule = self._active[value]
                found[block.module] = rule(tensor)

        given = torch.from_numpy(ids.astype(np.int64)), torch.arange(len(ids))
        bindings: dict[SSAValue, torch.Tensor] = dict(zip(self._args, given, strict=True))
        scope = Scope(len(ids), self._weights, self._derived)
        execute(needed(list(self._active), bindings), [], bindings, scope, watch)
        return found


def _neurons(exact: bool, norms: torch.Tensor, density: float, x: torch.Tensor) -> torch.Tensor:
    return x != 0 if exact else unpack(top(x.abs() * norms, density), x.shape[1])


def _largest(logits: torch.Tensor) -> torch.Tensor:
    return best(logits, min(TOP, logits.shape[1]))


def _heads(grams: torch.Tensor | None, density: float, x: torch.Tensor) -> torch.Tensor:
    return unpack(top(head_norms(x, grams), density), x.shape[1])


def agreement(
    model: Model, model_dir: Path, windows: Sequence[Window], observer: Observer | None = None
) -> list[Agreement]:
    """What each sparse block of an artifact chose at the decoded tokens of the windows, against the
    truth of the model it was compiled from. Nothing for a dense artifact.

    Raises SparsecompError when the model has not the artifact's blocks.
    """
    blocks = model.manifest.blocks
    if not blocks:
        return []
    observer = observer or SilentObserver()
    truth = Truth(model_dir, blocks, max(len(window.ids) for window in windows))
    counts = {block.module: _Counts() for block in blocks}
    for done, window in enumerate(windows, start=1):
        active = truth.active(window.ids[:-1])
        chosen = _chosen(model, window)
        for block in blocks:
            # The first token is prefilled: nothing is chosen for it.
            counts[block.module].add(chosen[block.module], active[block.module][1:])
        observer.progress(done, len(windows))
    return [
        Agreement(
            block.module,
            block.kind,
            density=c.chosen / c.units,
            recall=c.hits / c.true if c.true else 1.0,
            precision=c.hits / c.chosen if c.chosen else 1.0,
        )
        for block in blocks
        for c in (counts[block.module],)
    ]


def _chosen(model: Model, window: Window) -> dict[str, torch.Tensor]:
    """By module, which units each decoded token chose: (tokens, units) bool."""
    first, *rest = window.ids[:-1].tolist()
    blocks = model.manifest.blocks
    chosen = {b.module: torch.zeros(len(rest), b.units, dtype=torch.bool) for b in blocks}
    with model.session(len(window.ids)) as session:
        session.trace()
        session.prefill([first])
        for row, token in enumerate(rest):
            session.decode(token)
            for block, units in zip(blocks, session.chosen(), strict=True):
                chosen[block.module][row, units] = True
    return chosen
