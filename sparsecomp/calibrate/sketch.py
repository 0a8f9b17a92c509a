"""A sketch of the head: its rows in the principal axes of its input, to be kept in few bits.

Transform coding: in these axes the input's parts are uncorrelated and most of its variance lies in
few, so that bits go where they tell logits apart. It finds the largest logits where a low rank of
the same bytes does not, for the variance beyond any such rank still moves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sparsecomp.sketch_rounding import round_factors, rounded_sketch
from sparsecomp.sparsity import Sketch

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

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """(T, in) -> (T, V), with the roundings of a compiled sketch."""
        rows = rounded_sketch(self.rows).values(self.rows.shape[1])
        turned = F.linear(x, self.axes, self.axes_bias)
        return F.linear(round_factors(turned[:, :-1]), rows, self.bias) + turned[:, -1:]


def best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """(T, V) bool: the `count` largest of each row."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(1, scores.topk(count, 1).indices, True)


def candidates(count: int, probability: float, scores: torch.Tensor) -> torch.Tensor:
    """(T, V) bool: the `count` largest of each row, and all that are more probable than that."""
    return best(scores, count) | (scores.softmax(1) > probability)


def sketched(choice: Sketch, logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """What the head gives: (T, V) logits of the candidates, else from the scores (T, V)."""
    chosen = candidates(choice.count, choice.probability, scores)
    return torch.where(chosen, logits, scores + choice.offset)


def fit(
    count: int, probability: float, logits: torch.Tensor, scores: torch.Tensor, finish: Finish
) -> Sketch:
    """The choice of these candidates, with the density and the offset of these rows: the one for
    which KL(exact || sketched) is least."""
    log_p = F.log_softmax(finish(logits), 1)
    chosen = candidates(count, probability, scores)

    def divergence(offset: float) -> float:
        log_q = F.log_softmax(finish(torch.where(chosen, logits, scores + offset)), 1)
        return float(F.kl_div(log_q, log_p, reduction="batchmean", log_target=True))

    return Sketch(
        count=count,
        probability=probability,
        density=float(chosen.float().mean()),
        offset=_least(divergence, *OFFSETS),
    )


def recall(choice: Sketch, logits: torch.Tensor, scores: torch.Tensor) -> float:
    """The share of the TOP largest logits of each row that are among the candidates."""
    top = logits.topk(min(TOP, logits.shape[1]), 1).indices
    chosen = candidates(choice.count, choice.probability, scores)
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
