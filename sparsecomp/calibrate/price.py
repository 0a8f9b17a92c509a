"""What each option of a block costs in quality: nats a token, with that block alone sparse.

A block's options are all tried on its own output, which costs little. What an error there does to
the logits is measured for two of them, a mild one and a strong one, by running the rest of the
model; in between, divergence follows the error by a power law. All of a head are measured. Narrow
ones are few, and change what attention looks at rather than an output: see narrow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from sparsecomp.observer import Observer
from sparsecomp.passes.blocks import AttentionBlock, Block, HeadBlock, MlpBlock, source
from sparsecomp.reference.evaluate import Weights, weight_of
from sparsecomp.reference.spz import coarse, neurons
from sparsecomp.rounding import round_to
from sparsecomp.sparsity import (
    Approximate,
    Choice,
    Cutoff,
    Exact,
    LowRank,
    Narrow,
    Nested,
    Option,
    Selective,
    Sketch,
)

from .low_rank import Scorer
from .made import Made
from .narrow import narrow_costs
from .resumable import DenseRun, Resumable
from .sketch import sketched


@dataclass(frozen=True)
class Candidate:
    """A choice whose cost is not known yet, and how well it meets the truth (None: exactly)."""

    choice: Choice
    recall: float | None = None
    precision: float | None = None


class CoarseCopy:
    """An MLP by the high planes of its weights: rounded once for all windows and choices."""

    def __init__(self, block: MlpBlock, weights: Weights, made: Made):
        self.block = block
        self.weights = weights
        self.made = made
        self.matrix = functools.cache(lambda name: coarse(weights(name)))
        self._factors = functools.cache(lambda rank: round_to(self._correction(rank)[1], 4))

    @functools.cached_property
    def down(self) -> torch.Tensor:
        return coarse(self.weights(self.block.op.down.string_value()).T).T

    def values(self, x: torch.Tensor, rank: int) -> torch.Tensor:
        """(T, neurons) of inputs (T, in), corrected at this rank."""
        missing = None
        if rank:
            missing = F.linear(F.linear(x, self._correction(rank)[0]), self._factors(rank))
        return neurons(self.block.op, x, self.weights, self.matrix, missing)

    def _correction(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.made.correction(self.block.module, rank)


class SparseOutput:
    """A block's output under any choice, over one window."""

    def __init__(
        self,
        model: Resumable,
        dense: DenseRun,
        block: Block,
        made: Made,
        copy: CoarseCopy | None = None,
    ):
        self.block = block
        self.copy = copy
        self.dense = dense
        self.scope = model.scope(len(dense.log_p))
        self.model = model
        if isinstance(block, MlpBlock):
            self.neurons = neurons(block.op, dense.values[block.op.x], self._weight)
            self.norms = self._weight(block.op.down.string_value()).norm(dim=0)
            self.magnitudes = self.neurons.abs() * self.norms
            self._coarse: dict[int, torch.Tensor] = {}
        elif isinstance(block, HeadBlock):
            self.scores = made.sketch(block.module).scores(dense.values[block.input])

    def _weight(self, name: str) -> torch.Tensor:
        return weight_of(self.block.op, name, self.scope)

    def of(self, choice: Selective, scorer: Scorer | None) -> torch.Tensor:
        if isinstance(choice, Nested):
            return self._nested(choice)
        if isinstance(choice, Sketch):
            return sketched(choice, self.dense.values[self.block.op.results[0]], self.scores)
        selection = self._selection(choice, scorer)
        if not isinstance(self.block, MlpBlock):
            return self.dense.values[self.block.op.results[0]] * selection[..., None]
        return self._added_up(self.neurons * selection)

    def _added_up(self, values: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.block, MlpBlock)
        op = self.block.op
        bias = None if op.down_bias is None else self._weight(op.down_bias.string_value())
        return F.linear(values, self._weight(op.down.string_value()), bias)

    def _nested(self, choice: Nested) -> torch.Tensor:
        assert isinstance(self.block, MlpBlock) and self.copy is not None
        if choice.rank not in self._coarse:
            x = self.dense.values[self.block.op.x]
            self._coarse[choice.rank] = self.copy.values(x, choice.rank)
        values = self._coarse[choice.rank]
        scores = values.abs() * self.norms
        fine = scores > choice.threshold
        rest = (scores > choice.floor) & ~fine
        return self._added_up(self.neurons * fine) + F.linear(values * rest, self.copy.down)

    def _selection(
        self, choice: LowRank | Approximate | Cutoff, scorer: Scorer | None
    ) -> torch.Tensor:
        if isinstance(choice, LowRank | Approximate):
            lookahead = 0
            if isinstance(choice, LowRank):
                assert not choice.group, "priced by a threshold"
                lookahead = choice.lookahead
            assert scorer is not None
            seen = source(self.model.blocks, self.block, lookahead)
            return scorer.scores(self.dense.values[seen.input]) > choice.threshold
        if choice.of is Exact.NEURON:
            return self.magnitudes > choice.threshold
        assert isinstance(self.block, MlpBlock)
        x = self.dense.values[self.block.op.x]
        gates = neurons(self.block.op, x, self._weight, gate_only=True)
        return gates.abs() > choice.threshold


def price(
    model: Resumable,
    windows: Sequence[np.ndarray],
    candidates: Mapping[str, Sequence[Candidate]],
    made: Made,
    observer: Observer,
) -> dict[str, tuple[Option, ...]]:
    """The candidates of each block with their cost in nats a token, over windows of token ids."""
    runs = [model.run(window) for window in windows]
    sparse = [block for block in model.blocks if candidates.get(block.module)]
    options: dict[str, tuple[Option, ...]] = {}
    for done, block in enumerate(sparse, start=1):
        given = candidates[block.module]
        costs = _costs(model, runs, block, [candidate.choice for candidate in given], made)
        options[block.module] = tuple(
            Option(c.choice, costs[c.choice], c.recall, c.precision) for c in given
        )
        observer.progress(done, len(sparse))
    return options


def _costs(
    model: Resumable,
    runs: Sequence[DenseRun],
    block: Block,
    choices: Sequence[Choice],
    made: Made,
) -> dict[Choice, float]:
    """What each choice of a block costs."""
    selective = [choice for choice in choices if not isinstance(choice, Narrow)]
    measured = _selective_costs(model, runs, block, selective, made)
    costs: dict[Choice, float] = dict(zip(selective, measured, strict=True))
    if not isinstance(block, HeadBlock):
        narrow = [choice for choice in choices if isinstance(choice, Narrow)]
        costs |= narrow_costs(model, runs, block, narrow, made)
    return costs


def _selective_costs(
    model: Resumable,
    runs: Sequence[DenseRun],
    block: Block,
    choices: Sequence[Selective],
    made: Made,
) -> list[float]:
    copy = None
    if isinstance(block, MlpBlock):
        scope = model.scope(1)
        copy = CoarseCopy(block, lambda name: weight_of(block.op, name, scope), made)
    sparse = [SparseOutput(model, run, block, made, copy) for run in runs]
    tokens = sum(len(run.log_p) for run in runs)

    def outputs(choice: Selective) -> Iterator[torch.Tensor]:
        scorer = _scorer(block, choice, made)
        return (one.of(choice, scorer) for one in sparse)

    def error(choice: Selective) -> float:
        """Of the output that the rest of the model sees, squared, a token."""
        pairs = zip(outputs(choice), runs, strict=True)
        return sum(float(_miss(block, out, run, model)) for out, run in pairs) / tokens

    def divergence(choice: Selective) -> float:
        pairs = zip(outputs(choice), runs, strict=True)
        return sum(model.divergence(run, (block.op,), [out]) for out, run in pairs) / tokens

    if isinstance(block, HeadBlock):  # little comes behind it
        return [divergence(choice) for choice in choices]
    errors = [error(choice) for choice in choices]
    inexact = sorted(e for e in errors if e > 0)
    if not inexact:
        return [0.0] * len(errors)
    anchors = {inexact[len(inexact) // 4], inexact[len(inexact) * 3 // 4]}
    measured = {e: divergence(choices[errors.index(e)]) for e in sorted(anchors)}
    law = PowerLaw.through(measured)
    return [measured.get(e, law(e)) if e > 0 else 0.0 for e in errors]


def _scorer(block: Block, choice: Selective, made: Made) -> Scorer | None:
    """What chooses a block's units, where they do not do so themselves."""
    match choice:
        case LowRank():
            return made.predictor(block.module, choice.rank)
        case Approximate():
            return made.approximation(block.module, choice.rank)
    return None


def _miss(block: Block, output: torch.Tensor, run: DenseRun, model: Resumable) -> torch.Tensor:
    """How far an output is from the dense one, squared and summed, behind the output projection."""
    missing = run.values[block.op.results[0]] - output
    if isinstance(block, AttentionBlock) and block.output is not None:
        name = block.output.weight.string_value()
        matrix = weight_of(block.op, name, model.scope(len(missing)))
        missing = F.linear(missing.flatten(1), matrix)
    return missing.square().sum()


@dataclass(frozen=True)
class PowerLaw:
    """`scale * x ** power`."""

    scale: float
    power: float

    @staticmethod
    def through(points: Mapping[float, float]) -> PowerLaw:
        """Through one or two points; noise may not bend it far from proportion."""
        (x, y), *rest = sorted((x, max(y, 1e-12)) for x, y in points.items())
        if not rest:
            return PowerLaw(y / x, 1.0)
        ((x2, y2),) = rest
        power = min(max(math.log(y2 / y) / math.log(x2 / x), 0.5), 1.5)
        # Of the two the strong one is measured better.
        return PowerLaw(y2 / x2**power, power)

    def __call__(self, x: float) -> float:
        return self.scale * float(x**self.power)
