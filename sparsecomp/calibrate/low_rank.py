"""Low-rank predictors of units (Deja Vu, arXiv 2310.17157, section 4.1): their training.

Two linears without an activation between, and a bias: `(x @ down.T) @ up.T + bias`. They start as
the best product of their rank for the block's true first linear on these inputs, and are trained
with weighted binary cross-entropy (AdamW, batches of 1024) until recall at a fixed density stops
to rise on rows that they do not learn from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional as F

from sparsecomp.observer import Observer, SilentObserver

from .best_product import best_product
from .bits import unpack

BATCH = 1024
HELD = 20
"""One row block in so many is held back."""
HELD_BLOCK = 256
"""Rows held together: those of one window are alike."""
MAX_EPOCHS = 8
LEAST_GAIN = 1e-3
"""Of recall, for another epoch."""
LEARNING_RATE = 1e-2
POSITIVE_WEIGHT = 2.0
"""Missing a true unit costs this many times what a needless one costs."""
MEASURED = 1 << 22
"""Scores that rates are measured on, at most: what a sort takes a second for."""


class Scorer(Protocol):
    """What tells units by their scores."""

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in) float32 -> (n, units) float32."""
        ...


@dataclass(frozen=True)
class Predictor:
    """down (rank, in), up (units, rank), bias (units,), all float32."""

    down: torch.Tensor
    up: torch.Tensor
    bias: torch.Tensor

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in) float32 -> (n, units) float32."""
        return F.linear(F.linear(x, self.down), self.up, self.bias)


@dataclass(frozen=True)
class Point:
    """A rule of choosing by scores, and how it does on rows held back from training.

    The rule is a threshold, or, when `group` is not 0, the `count` best of each `group` units.
    `density` is the share of units chosen, `recall` the share of true units that are chosen,
    `precision` the share of chosen units that are true, `active` the share of units that are
    chosen and true.
    """

    density: float
    recall: float
    precision: float
    active: float
    threshold: float = 0.0
    count: int = 0
    group: int = 0


@dataclass(frozen=True)
class Trained:
    """A predictor and its rules. `recall`, `precision` and `density` are those it was stopped by,
    after `epochs` passes over the rows.
    """

    predictor: Predictor
    recall: float
    precision: float
    density: float
    epochs: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class First:
    """The true first linear of a block: matrix (units, in), bias (units,) or None.

    `inputs` (rows, in) is what it reads, where a predictor with lookahead reads something else.
    """

    matrix: torch.Tensor
    bias: torch.Tensor | None = None
    inputs: torch.Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """What a predictor learns from: inputs (rows, in), any float type, and the packed bits of true
    units (rows, bytes). Both may be mapped files: they are read a batch at a time.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    units: int

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, in) float32 and (n, units) bool of the rows with these indices."""
        return self.inputs[rows].float(), unpack(self.labels[rows], self.units)


def train(
    rows: Rows,
    rank: int,
    *,
    first: First | None = None,
    seed: int = 0,
    densities: Sequence[float] = (),
    groups: Sequence[tuple[int, int]] = (),
    max_epochs: int = MAX_EPOCHS,
    observer: Observer | None = None,
) -> Trained:
    """Train a predictor of `rank` and measure its rules: thresholds for `densities`, and the best
    `count` of each `group` for (count, group) in `groups`.

    `first` is where it starts from, when the units are neurons; without it (heads) it starts at
    random. The same seed gives the same predictor on the same machine.
    """
    observer = observer or SilentObserver()
    generator = torch.Generator().manual_seed(seed)
    learned, held = _parts(len(rows))
    moments = _Moments.of(rows, learned)
    rank = min(rank, rows.inputs.shape[1], rows.units)
    model = _Model(_start(rows, learned, rank, first, moments, generator), moments)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    steps = max(max_epochs * math.ceil(len(learned) / BATCH), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 - n / steps)
    # As many as are true: where recall has most to gain.
    target = moments.positives
    (best,) = measure(model.predictor(), rows, held, [target])
    kept, epochs = model.predictor(), 0
    for epoch in range(1, max_epochs + 1):
        order = learned[torch.randperm(len(learned), generator=generator)]
        for batch in order.split(BATCH):
            x, labels = rows.batch(batch)
            optimizer.zero_grad()
            model.loss(x, labels).backward()
            optimizer.step()
            schedule.step()
        observer.progress(epoch, max_epochs)
        (point,) = measure(model.predictor(), rows, held, [target])
        gain = point.recall - best.recall
        if gain > 0:
            best, kept, epochs = point, model.predictor(), epoch
        if gain < LEAST_GAIN:
            break
    points = measure(kept, rows, held, densities, groups)
    return Trained(kept, best.recall, best.precision, best.density, epochs, points)


def measure(
    scorer: Scorer,
    rows: Rows,
    held: torch.Tensor,
    densities: Sequence[float] = (),
    groups: Sequence[tuple[int, int]] = (),
) -> tuple[Point, ...]:
    """How a scorer's rules do on the rows of indices `held`: a point for each density, then one
    for each (count, group).
    """
    most = max(MEASURED // rows.units, 1)
    if len(held) > most:
        held = held[torch.linspace(0, len(held) - 1, most).long()]
    x, labels = rows.batch(held)
    scores = scorer.scores(x)
    points = []
    if densities:
        ordered = np.sort(scores.numpy(), axis=None)  # many times as fast as torch's
        for density in densities:
            chosen = min(max(round(density * len(ordered)), 1), len(ordered))
            # Above the first score that is not chosen; all are chosen below the last.
            last = float(ordered[-chosen - 1] if chosen < len(ordered) else ordered[0] - 1)
            points.append(_point(scores > last, labels, threshold=last))
    for count, group in groups:
        points.append(_point(_best(scores, count, group), labels, count=count, group=group))
    return tuple(points)


def _point(picked: torch.Tensor, labels: torch.Tensor, **rule: float) -> Point:
    hits, chosen = int((picked & labels).sum()), int(picked.sum())
    return Point(
        density=chosen / labels.numel(),
        recall=hits / max(int(labels.sum()), 1),
        precision=hits / max(chosen, 1),
        active=hits / labels.numel(),
        **rule,  # type: ignore[arg-type]
    )


def _best(scores: torch.Tensor, count: int, group: int) -> torch.Tensor:
    """The `count` largest of each `group` scores of a row, in order; the last may be smaller."""
    chosen = torch.zeros(scores.shape, dtype=torch.bool)
    for part, into in zip(scores.split(group, dim=1), chosen.split(group, dim=1), strict=True):
        top = part.topk(min(count, part.shape[1]), dim=1).indices
        into.scatter_(1, top, True)
    return chosen


def held_rows(rows: int) -> torch.Tensor:
    return _parts(rows)[1]


def _parts(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the rows to learn from, and of those held back: one block in `HELD`."""
    index = torch.arange(rows)
    held = index // min(HELD_BLOCK, max(rows // HELD, 1)) % HELD == HELD - 1
    return index[~held], index[held]


@dataclass(frozen=True)
class _Moments:
    """Of the inputs: mean (in,) and covariance (in, in); of the labels: the share that is true."""

    mean: torch.Tensor
    covariance: torch.Tensor
    positives: float

    @staticmethod
    def of(rows: Rows, indices: torch.Tensor) -> _Moments:
        width = rows.inputs.shape[1]
        total, squares, true = torch.zeros(width), torch.zeros(width, width), 0
        for batch in indices.split(4 * BATCH):
            x, labels = rows.batch(batch)
            total += x.sum(0)
            squares += x.T @ x
            true += int(labels.sum())
        mean = total / len(indices)
        covariance = squares / len(indices) - torch.outer(mean, mean)
        return _Moments(mean, covariance, true / (len(indices) * rows.units))


class _Model(torch.nn.Module):
    """A predictor on inputs of mean 0 and deviation 1, so that one learning rate suits all."""

    def __init__(self, start: Predictor, moments: _Moments):
        super().__init__()
        self.mean = moments.mean
        self.scale = moments.covariance.diagonal().clamp_min(1e-12).sqrt()
        self.weight = torch.tensor(POSITIVE_WEIGHT)
        self.down = torch.nn.Parameter(start.down * self.scale)
        self.up = torch.nn.Parameter(start.up.clone())
        self.bias = torch.nn.Parameter(start.bias + start.up @ (start.down @ self.mean))

    def loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hidden = F.linear((x - self.mean) / self.scale, self.down)
        logits = F.linear(hidden, self.up, self.bias)
        return F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=self.weight)

    @torch.no_grad()
    def predictor(self) -> Predictor:
        """The same on inputs as they are."""
        down = (self.down / self.scale).contiguous()
        up = self.up.clone(memory_format=torch.contiguous_format)
        return Predictor(down, up, self.bias - self.up @ (down @ self.mean))


def _start(
    rows: Rows,
    learned: torch.Tensor,
    rank: int,
    first: First | None,
    moments: _Moments,
    generator: torch.Generator,
) -> Predictor:
    width = rows.inputs.shape[1]
    if first is None:
        scale = moments.covariance.diagonal().clamp_min(1e-12).sqrt()
        down = torch.randn(rank, width, generator=generator) / math.sqrt(width) / scale
        up = torch.randn(rows.units, rank, generator=generator) / math.sqrt(rank)
        share = min(max(moments.positives, 1e-4), 1 - 1e-4)
        bias = torch.full((rows.units,), math.log(share / (1 - share)))
        return Predictor(down, up, bias - up @ (down @ moments.mean))
    true = _true_inputs(rows, first, learned, moments)
    matrix = first.matrix.double()
    down, up = best_product(matrix @ true.cross, moments.covariance, rank)
    # What it leaves out is noise on that value: a logit is the value over it.
    variance = ((matrix @ true.covariance) * matrix).sum(1)
    noise = (variance - up.square().sum(1)).clamp_min(0).sqrt()
    slope = LOGISTIC / noise.clamp_min(1e-3 * float(noise.max()) + 1e-12)
    bias = matrix @ true.mean - up @ (down @ moments.mean.double())
    if first.bias is not None:
        bias += first.bias.double()
    return Predictor(down.float(), (slope[:, None] * up).float(), (slope * bias).float())


@dataclass(frozen=True)
class _TrueInputs:
    """Of what the first linear reads: mean, covariance, and covariance with the predictor's inputs
    (both (in, in)), in float64.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    cross: torch.Tensor


def _true_inputs(rows: Rows, first: First, learned: torch.Tensor, moments: _Moments) -> _TrueInputs:
    if first.inputs is None:
        covariance = moments.covariance.double()
        return _TrueInputs(moments.mean.double(), covariance, covariance)
    width = first.inputs.shape[1]
    total = torch.zeros(width)
    squares = torch.zeros(width, width)
    cross = torch.zeros(width, rows.inputs.shape[1])
    for batch in learned.split(4 * BATCH):
        true = first.inputs[batch].float()
        total += true.sum(0)
        squares += true.T @ true
        cross += true.T @ rows.inputs[batch].float()
    mean = total / len(learned)
    return _TrueInputs(
        mean.double(),
        (squares / len(learned) - torch.outer(mean, mean)).double(),
        (cross / len(learned) - torch.outer(mean, moments.mean)).double(),
    )


LOGISTIC = 1.702
"""A normal distribution's function is nearly a logistic one of this slope."""
