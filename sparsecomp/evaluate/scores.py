"""An artifact's logits against the reference's, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.logits import Logits, LogitSource, Window
from sparsecomp.observer import Observer

TURN = 32
"""Tokens that a model decodes before the other has its turn."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """Of n scored tokens: what each cost the artifact and the reference, in nats, (n,).

    `kl` is KL(reference || artifact) of the two distributions, in nats, (n,); `hit` is whether
    the top token was the right one, `same_top` whether both have the same top token, (n,).
    """

    cost: Floats
    reference_cost: Floats
    kl: Floats
    hit: Bools
    reference_hit: Bools
    same_top: Bools


def score(
    artifact: LogitSource,
    reference: LogitSource,
    windows: Sequence[Window],
    observer: Observer,
) -> list[Scores]:
    """The scores of each window; holds the logits of one window at a time.

    Raises SparsecompError when the two have different vocabularies, or logits are not finite.
    """
    scores = []
    for number, window in enumerate(windows, start=1):
        scores.append(_score_window(artifact, reference, window))
        observer.progress(number, len(windows))
    return scores


def costs(source: LogitSource, windows: Sequence[Window], observer: Observer) -> Floats:
    """What each scored token of the windows costs a model, in nats, (n,).

    Raises SparsecompError when logits are not finite.
    """
    found = [np.empty(0)]
    for number, window in enumerate(windows, start=1):
        rows = zip(source.logits(window), window.targets, strict=True)
        found.append(np.array([-_log_softmax(row, source)[target] for row, target in rows]))
        observer.progress(number, len(windows))
    return np.concatenate(found)


def _score_window(artifact: LogitSource, reference: LogitSource, window: Window) -> Scores:
    count = len(window.targets)
    costs, reference_costs, kl = np.empty(count), np.empty(count), np.empty(count)
    tops, reference_tops = np.empty(count, np.int64), np.empty(count, np.int64)
    pairs = _in_turns(artifact.logits(window), reference.logits(window))
    rows = zip(pairs, window.targets, strict=True)
    for i, ((row, reference_row), target) in enumerate(rows):
        if row.shape != reference_row.shape:
            raise SparsecompError(
                f"{artifact.name} has {len(row)} logits for a token and {reference.name} has "
                f"{len(reference_row)}; give the model that the artifact was compiled from"
            )
        log_p = _log_softmax(row, artifact)
        reference_log_p = _log_softmax(reference_row, reference)
        costs[i], reference_costs[i] = -log_p[target], -reference_log_p[target]
        divergence = float(np.exp(reference_log_p) @ (reference_log_p - log_p))
        kl[i] = max(divergence, 0.0)  # rounding can leave it just below
        tops[i], reference_tops[i] = row.argmax(), reference_row.argmax()
    return Scores(
        cost=costs,
        reference_cost=reference_costs,
        kl=kl,
        hit=tops == window.targets,
        reference_hit=reference_tops == window.targets,
        same_top=tops == reference_tops,
    )


def _in_turns(
    rows: Iterator[Logits], reference_rows: Iterator[Logits]
) -> Iterator[tuple[Logits, Logits]]:
    """Pairs of rows. Each model decodes TURN tokens in a row: the workers of one that has just
    decoded still spin, in the way of the other's."""
    while turn := list(islice(rows, TURN)):
        yield from zip(turn, islice(reference_rows, TURN), strict=True)


def _log_softmax(row: Logits, source: LogitSource) -> Floats:
    """Log probabilities, float64 (vocab,)."""
    shifted = row.astype(np.float64) - row.max()
    if not np.isfinite(shifted).all():
        raise SparsecompError(f"{source.name}: gives logits that are not finite; cannot be scored")
    return shifted - np.log(np.exp(shifted).sum())
