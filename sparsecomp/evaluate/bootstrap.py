"""How far a figure would move on other text of the same kind: the bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 0

Weights = npt.NDArray[np.float64]
"""How often each observation is in a resample, (n,)."""
Statistic = Callable[[Weights], float]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % percentile interval."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Resamples whole units of observations, so that what comes together stays together.

    Every statistic sees the same resamples: one that subtracts two models' scores of an
    observation is paired.
    """

    def __init__(
        self, units: npt.NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = SEED
    ) -> None:
        """`units` (n,) numbers the unit of each observation, from 0 without gaps.

        Raises SparsecompError for a single unit, which says nothing about others.
        """
        self._units = units
        self._count = int(units.max(initial=-1)) + 1
        self._resamples = resamples
        self._seed = seed
        if self._count < 2:
            raise SparsecompError("too little to tell how certain the figures are; give more text")

    def estimate(self, statistic: Statistic) -> Estimate:
        """`statistic` of the observations as they are, and its interval over resamples."""
        random = np.random.default_rng(self._seed)
        values = np.empty(self._resamples)
        for number in range(self._resamples):
            drawn = np.bincount(
                random.integers(self._count, size=self._count), minlength=self._count
            )
            values[number] = statistic(drawn[self._units].astype(np.float64))
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return Estimate(statistic(np.ones(len(self._units))), float(low), float(high))


def mean(values: npt.NDArray[np.float64]) -> Statistic:
    """The mean of `values` (n,)."""
    return lambda weights: float(weights @ values / weights.sum())


def exp_mean(values: npt.NDArray[np.float64]) -> Statistic:
    """exp of the mean of `values` (n,), in nats: a perplexity, or a ratio of two."""
    return lambda weights: float(np.exp(weights @ values / weights.sum()))


def quantile(values: npt.NDArray[np.float64], share: float) -> Statistic:
    """The smallest of `values` (n,) that at least `share` of them do not exceed."""
    order = np.argsort(values)
    ascending = values[order]

    def of(weights: Weights) -> float:
        reached = np.cumsum(weights[order])
        return float(ascending[np.searchsorted(reached, share * reached[-1])])

    return of
