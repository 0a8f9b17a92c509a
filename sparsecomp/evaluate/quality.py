"""Perplexity, divergence and agreement on held-out text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsecomp.evaluate.bootstrap import Bootstrap, Estimate, exp_mean, mean, quantile
from sparsecomp.evaluate.logits import LogitSource, Window
from sparsecomp.evaluate.scores import Floats, score
from sparsecomp.observer import Observer, SilentObserver

BLOCK = 32
"""Tokens that are resampled together: neighbours are alike, so they count for less than as many
tokens from anywhere."""


@dataclass(frozen=True)
class QualityReport:
    """An artifact against its reference on the same tokens.

    `ratio` is perplexity over reference_perplexity; KL is KL(reference || artifact) in nats;
    `same_top` is the share of tokens for which both predict the same one.
    """

    perplexity: Estimate
    reference_perplexity: Estimate
    ratio: Estimate
    kl_mean: Estimate
    kl_p99: Estimate
    same_top: Estimate
    tokens: int
    windows: int
    seconds: float


def quality(
    artifact: LogitSource,
    reference: LogitSource,
    windows: Sequence[Window],
    observer: Observer | None = None,
) -> QualityReport:
    """Teacher-forced: both predict each scored token of the windows from the true ones before it.

    Raises SparsecompError when the two are not of one model, logits are not finite, or fewer
    than two blocks of BLOCK tokens are scored.
    """
    blocks = _blocks([len(window.targets) for window in windows])
    bootstrap = Bootstrap(blocks)
    started = time.perf_counter()
    scores = score(artifact, reference, windows, observer or SilentObserver())
    seconds = time.perf_counter() - started
    cost = np.concatenate([s.cost for s in scores])
    reference_cost = np.concatenate([s.reference_cost for s in scores])
    kl = np.concatenate([s.kl for s in scores])
    same_top = np.concatenate([s.same_top for s in scores]).astype(np.float64)
    return QualityReport(
        perplexity=bootstrap.estimate(exp_mean(cost)),
        reference_perplexity=bootstrap.estimate(exp_mean(reference_cost)),
        ratio=bootstrap.estimate(exp_mean(cost - reference_cost)),
        kl_mean=bootstrap.estimate(mean(kl)),
        kl_p99=bootstrap.estimate(quantile(kl, 0.99)),
        same_top=bootstrap.estimate(mean(same_top)),
        tokens=len(cost),
        windows=len(windows),
        seconds=seconds,
    )


def ratio(cost: Floats, reference_cost: Floats, windows: Sequence[Window]) -> Estimate:
    """Perplexity over that of the reference, from both models' costs (n,) of the same tokens."""
    blocks = _blocks([len(window.targets) for window in windows])
    return Bootstrap(blocks).estimate(exp_mean(cost - reference_cost))


def _blocks(lengths: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The block of each token; none spans two windows."""
    blocks, used = [np.empty(0, np.int64)], 0
    for length in lengths:
        blocks.append(used + np.arange(length) // BLOCK)
        used += -(-length // BLOCK)
    return np.concatenate(blocks)
