"""The next token from the best candidates of each rank (HiRE's DA-TOP-k, arXiv 2402.09360).

Greedy, top-k and top-p sampling are exact: the token is the one that all logits in one place would
give with the same seed (but for the rounding of a sum over the vocabulary, where one is needed).
Each rank gives as many candidates as can be needed: one, or `top_k`; for top-p alone a few, and
more of them while those of all ranks do not reach p for certain. Sampling from the whole
vocabulary draws the rank by the sum of its weights, then the token among its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.artifact import Shard
from sparsecomp.runtime.sampling import Sampler, SamplingParams, draw, largest

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

Gather = Callable[[bytes], Sequence[bytes]]
"""What all ranks give, in order; as many bytes each."""

FEW = 64
"""Candidates of each rank for top-p, at first."""
MORE = 8
"""How many times as many when they were too few."""
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32)])
Candidates = npt.NDArray[np.void]
"""Of type CANDIDATE."""


class RankSampler:
    """Samples the tokens of one sequence: call it with each step's logits of this rank.

    `shards` say which tokens each rank scores. All ranks must have the same `params`, seed and all.
    """

    def __init__(
        self, params: SamplingParams, rank: int, shards: Sequence[Shard], gather: Gather
    ) -> None:
        self._params = params
        self._sampler = Sampler(params)
        self._random = np.random.default_rng(params.seed)
        self._first = shards[rank].first_token
        self._gather = gather
        # Where the head is whole on every rank, the first one speaks for all.
        whole = all(shard.first_token == 0 for shard in shards)
        self._sizes = [0 if whole and r else shard.logits for r, shard in enumerate(shards)]
        self._size = self._sizes[rank]

    def __call__(self, logits: Logits) -> int:
        """The next token id, the same on every rank. Raises SparsecompError when the best logit is
        not a finite number."""
        own = logits[: self._size]
        if self._params.temperature == 0:
            return self._best(own, 1)
        if self._params.top_k:
            return self._best(own, self._params.top_k)
        if self._params.top_p < 1:
            return self._nucleus(own)
        return self._any(own)

    def _best(self, logits: Logits, count: int) -> int:
        """Among the `count` best of all: they are among the `count` best of each rank. What is
        drawn from these alone does not depend on the others."""
        parts = self._candidates(logits, count)
        return int(_ids(parts)[self._sampler(_scores(parts))])

    def _nucleus(self, logits: Logits) -> int:
        """Among the fewest best whose probabilities reach top_p."""
        totals, top = self._totals(logits)
        goal = self._params.top_p * totals.sum()
        count = FEW
        while True:
            parts = self._candidates(logits, count)
            order = np.argsort(-_scores(parts), kind="stable")
            ids, weights = _ids(parts)[order], self._weights(_scores(parts)[order], top)
            reached = int(np.searchsorted(np.cumsum(weights), goal, side="left"))
            everything = count >= max(self._sizes)
            if everything or reached < self._certain(parts, ids):
                return int(ids[draw(weights[: reached + 1], self._random.random())])
            count *= MORE

    def _any(self, logits: Logits) -> int:
        """Among all: the ranks' tokens lie one behind the other."""
        totals, top = self._totals(logits)
        goal = self._random.random() * totals.sum()
        rank = int(np.searchsorted(np.cumsum(totals), goal, side="right"))
        rank = min(rank, int(np.flatnonzero(totals)[-1]))
        before = totals[:rank].sum()
        # Every rank looks among its own, and the drawn one's answer counts.
        own = before + np.cumsum(self._weights(logits, top))
        index = int(np.searchsorted(own, goal, side="right"))
        pick = self._first + min(index, max(self._size - 1, 0))
        return int(np.frombuffer(self._gather(np.int64(pick).tobytes())[rank], np.int64)[0])

    def _weights(self, scores: Logits, top: float) -> npt.NDArray[np.float64]:
        with np.errstate(over="ignore"):  # -inf is right: no probability
            return np.exp((scores.astype(np.float64) - top) / self._params.temperature)

    def _totals(self, logits: Logits) -> tuple[npt.NDArray[np.float64], float]:
        """The sum of each rank's weights (ranks,), beside the best logit of all, and that."""
        top = float(logits.max()) if self._size else -math.inf
        total = float(self._weights(logits, top).sum()) if self._size else 0.0
        parts = self._gather(np.array([top, total], np.float64).tobytes())
        tops, totals = np.stack([np.frombuffer(part, np.float64) for part in parts]).T
        best = float(tops.max())
        if not math.isfinite(best):
            raise SparsecompError(f"the model's logits are not finite: the best is {best}")
        return totals * np.exp((tops - best) / self._params.temperature), best

    def _candidates(self, logits: Logits, count: int) -> list[Candidates]:
        """The `count` best of each rank, by their ids; of equal ones the first."""
        room = np.zeros(min(count, max(self._sizes)), CANDIDATE)
        best = np.arange(self._size)
        if count < self._size:
            top = int(np.argmax(logits))
            if math.isfinite(logits[top]):
                best = largest(logits.astype(np.float64), count)
            else:  # it is for the sampler to complain
                best = np.full(count, top)
        room["id"][: len(best)], room["logit"][: len(best)] = self._first + best, logits[best]
        parts = self._gather(room.tobytes())
        return [
            np.frombuffer(part, CANDIDATE)[:size]
            for part, size in zip(parts, self._sizes, strict=True)
        ]

    def _certain(self, parts: Sequence[Candidates], ids: Ids) -> int:
        """How many of all candidates, best first, come before any token that was not given: those
        up to the first that is the last of a rank that has more."""
        ends = [
            int(np.flatnonzero(np.isin(ids, part["id"]))[-1])
            for part, size in zip(parts, self._sizes, strict=True)
            if len(part) < size
        ]
        return min(ends) + 1 if ends else len(ids)


def _ids(parts: Sequence[Candidates]) -> Ids:
    return np.concatenate([part["id"] for part in parts])


def _scores(parts: Sequence[Candidates]) -> Logits:
    return np.concatenate([part["logit"] for part in parts])
