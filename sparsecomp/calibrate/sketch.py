"""A sketch of the head: its rows in the principal axes of its input, to be kept in few bits.

Transform coding: in these axes the input's parts are uncorrelated and most of its variance lies in
few, so that bits go where they tell logits apart. It finds the largest logits where a low rank of
the same bytes does not, for the variance beyond any such rank still moves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional as F

from sparsecomp import sketches
from sparsecomp.sketch_rounding import (
    Refinement,
    RoundedSketch,
    round_factors,
    rounded_cascade,
    rounded_sketch,
)
from sparsecomp.sparsity import Cascade, Sketch

TOP = 50
"""Of the largest logits: those that should be among the candidates."""
OFFSETS = (-0.5, 1.5)
"""Between these the offset of scores is looked for."""
OFFSET_STEPS = 12

Finish = Callable[[torch.Tensor], torch.Tensor]
"""What the model does with the head's result: (T, V) -> (T, V)."""


@dataclass(frozen=True)
class HeadSketch:
    """The weights of a sketch, float32: `axes` (in + 1, in) and `axes_bias` (in + 1,), of which the
    last row gives what all rows of the head have in common; `rows` (V, in) and `bias` (V,)."""

    axes: torch.Tensor
    axes_bias: torch.Tensor
    rows: torch.Tensor
    bias: torch.Tensor

    @staticmethod
    def of(weight: torch.Tensor, bias: torch.Tensor | None, inputs: torch.Tensor) -> HeadSketch:
        """Of a head (V, in) whose input was recorded as `inputs` (rows, in)."""
        x = inputs.double()
        mean = x.mean(0)
        turn = torch.linalg.eigh((x - mean).T @ (x - mean)).eigenvectors.flip(1).float()
        mean = mean.float()
        common = weight.mean(0)
        rows = (weight - common) @ turn
        # One scale serves many axes of a row, so they are made alike.
        sizes = rows.square().mean(0).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        axes = torch.cat([(turn * sizes).T, common[None]])
        start = F.linear(mean, weight, bias)
        return HeadSketch(axes, -(axes @ mean), rows / sizes, start)

    @cached_property
    def _plain(self) -> RoundedSketch:
        return rounded_sketch(self.rows)

    @cached_property
    def _first(self) -> tuple[RoundedSketch, Refinement]:
        return rounded_cascade(self.rows)

    def scores(self, x: torch.Tensor) -> Scores:
        """By inputs (T, in), with the roundings of compiled sketches."""
        turned = F.linear(x, self.axes, self.axes_bias)
        factors, common = turned[:, :-1], turned[:, -1:]
        axes = self.rows.shape[1]

        def by(sketch: RoundedSketch) -> torch.Tensor:
            groups = [group for group, _ in sketches.groups(axes, sketch.bits)]
            return F.linear(round_factors(factors, groups), sketch.values(axes), self.bias) + common

        if not sketches.refined_groups(axes):
            return Scores(by(self._plain))
        first, refinement = self._first
        refined = round_factors(factors, sketches.refined_groups(axes))
        added = F.linear(refined, refinement.values(axes))
        return Scores(by(self._plain), by(first), added)


@dataclass(frozen=True)
class Scores:
    """Of a vocabulary (T, V): by a plain sketch, by the first one of a cascade, and what its
    refinement adds; None where all axes are fine, so that there is none."""

    plain: torch.Tensor
    first: torch.Tensor | None = None
    added: torch.Tensor | None = None

    def by(self, choice: Sketch) -> torch.Tensor:
        """Those by which candidates are chosen, (T, V)."""
        if not isinstance(choice, Cascade) or self.first is None or self.added is None:
            return self.plain
        worth = candidates(choice.first_count, choice.first_probability, self.first)
        return self.first + torch.where(worth, self.added, choice.first_offset)


def best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """(T, V) bool: the `count` largest of each row."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(1, scores.topk(count, 1).indices, True)


def candidates(count: int, probability: float, scores: torch.Tensor) -> torch.Tensor:
    """(T, V) bool: the `count` largest of each row, and all that are more probable than that."""
    return best(scores, count) | (scores.softmax(1) > probability)


def sketched(choice: Sketch, logits: torch.Tensor, scores: Scores) -> torch.Tensor:
    """What the head gives: (T, V) logits of the candidates, else from the scores."""
    by = scores.by(choice)
    chosen = candidates(choice.count, choice.probability, by)
    return torch.where(chosen, logits, by + choice.offset)


def fit(
    count: int, probability: float, logits: torch.Tensor, scores: torch.Tensor, finish: Finish
) -> Sketch:
    """The choice of these candidates by scores (T, V), with the density and the offset of these
    rows: the one for which KL(exact || sketched) is least."""
    chosen = candidates(count, probability, scores)
    divergence = _divergence(logits, finish)
    return Sketch(
        count=count,
        probability=probability,
        density=float(chosen.float().mean()),
        offset=_least(lambda o: divergence(torch.where(chosen, logits, scores + o)), *OFFSETS),
    )


def fit_cascade(
    first: Sketch,
    count: int,
    probability: float,
    logits: torch.Tensor,
    scores: Scores,
    finish: Finish,
) -> Cascade:
    """The same by a cascade, of which `first` is fitted to the scores of the first sketch: the rows
    that it would compute exactly are those that are scored once more."""
    assert scores.first is not None and scores.added is not None
    worth = candidates(first.count, first.probability, scores.first)
    by = scores.first + torch.where(worth, scores.added, first.offset)
    chosen = candidates(count, probability, by)
    divergence = _divergence(logits, finish)
    # The offset of the others stays what it is without the second one.
    offset = _least(
        lambda o: divergence(torch.where(chosen, logits, torch.where(worth, by + o, by))), *OFFSETS
    )
    return Cascade(
        count=count,
        probability=probability,
        density=float(chosen.float().mean()),
        offset=offset,
        first_count=first.count,
        first_probability=first.probability,
        first_density=first.density,
        first_offset=round(first.offset - offset, 3),
    )


def _divergence(logits: torch.Tensor, finish: Finish) -> Callable[[torch.Tensor], float]:
    """KL(exact || given) of what a head could give in place of logits (T, V), nats a token."""
    log_p = F.log_softmax(finish(logits), 1)

    def divergence(given: torch.Tensor) -> float:
        log_q = F.log_softmax(finish(given), 1)
        return float(F.kl_div(log_q, log_p, reduction="batchmean", log_target=True))

    return divergence


def recall(choice: Sketch, logits: torch.Tensor, scores: Scores) -> float:
    """The share of the TOP largest logits of each row that are among the candidates."""
    top = logits.topk(min(TOP, logits.shape[1]), 1).indices
    chosen = candidates(choice.count, choice.probability, scores.by(choice))
    return float(chosen.gather(1, top).float().mean())


def _least(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a convex function is least, by golden sections."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = f(a), f(b)
    for _ in range(OFFSET_STEPS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = f(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = f(b)
    return round((low + high) / 2, 3)
