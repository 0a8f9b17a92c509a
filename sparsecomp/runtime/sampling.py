"""Chooses the next token from the logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to generate.

    temperature: 0 takes the likeliest token (the lowest id of equals); above 0 samples.
    top_k: only the k likeliest tokens; 0 for all.
    top_p: only the fewest likeliest tokens whose probabilities reach p; 1 for all.
    seed: the same seed gives the same tokens for a prompt, whatever is generated beside it;
        None for a different outcome each time.
    max_new_tokens: where generation ends at the latest.
    stop: texts that end the generation; they are not part of its text.
    ignore_eos: go on after an end-of-sequence token.

    Where the model's head is sketched (`manifest.exact_logits` below the vocabulary), what is
    likely is exact: greedy, and the probabilities of the likeliest tokens relative to each other,
    among them all that a top_k of 50 leaves (at the recall that was calibrated). Tokens beyond the
    candidates have approximate logits, so the sum that absolute probabilities and top_p are
    relative to is approximate, and so are log probabilities; `Session.decode(full_logits=True)`
    gives them exactly. A prompt's own logits are always exact.

    Raises SparsecompError for a value out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    max_new_tokens: int = 128
    stop: Sequence[str] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0.0, math.inf)
        _check_number("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0:
            raise SparsecompError("top_p: is 0, must be above 0")
        _check_integer("top_k", self.top_k, 0)
        _check_integer("max_new_tokens", self.max_new_tokens, 1)
        if self.seed is not None:
            _check_integer("seed", self.seed, 0)
        if isinstance(self.stop, str) or not all(
            isinstance(text, str) and text for text in self.stop
        ):
            raise SparsecompError(f"stop: is {self.stop!r}, must be a list of texts, none empty")
        object.__setattr__(self, "stop", tuple(self.stop))


class Sampler:
    """Samples the tokens of one sequence: call it with each step's logits."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._random = np.random.default_rng(params.seed)

    def __call__(self, logits: npt.NDArray[np.float32]) -> int:
        """The next token id from `logits` (vocab,). Raises SparsecompError when the best
        logit is not a finite number."""
        best = int(np.argmax(logits))
        if not math.isfinite(logits[best]):
            raise SparsecompError(f"the model's logits are not finite: token {best} has "
                                  f"{logits[best]}")  # fmt: skip
        if self._params.temperature == 0:
            return best
        tokens, weights = candidates(logits, self._params)
        return int(tokens[draw(weights, self._random.random())])


def draw(weights: npt.NDArray[np.float64], share: float) -> int:
    """The index at which a share (0 to below 1) of the sum of the weights is passed."""
    cumulative = np.cumsum(weights)
    index = int(np.searchsorted(cumulative, share * cumulative[-1], side="right"))
    # Rounding may draw the very end: take the last one with any weight.
    last = int(np.searchsorted(cumulative, cumulative[-1], side="left"))
    return min(index, last)


def candidates(
    logits: npt.NDArray[np.float32], params: SamplingParams
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The tokens to draw from and their weights, which are proportional to probabilities.

    Temperature first, then top-k, then top-p over what top-k left. Of equal tokens the lower
    ids are kept first.
    """
    with np.errstate(over="ignore"):  # -inf is right: no probability
        scores = (logits.astype(np.float64) - float(logits.max())) / params.temperature
    tokens = np.arange(len(scores))
    if 0 < params.top_k < len(scores):
        tokens = largest(scores, params.top_k)
    weights = np.exp(scores[tokens])
    if params.top_p < 1:
        kept = _nucleus(weights, params.top_p)
        tokens, weights = tokens[kept], weights[kept]
    return tokens, weights


def largest(values: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.intp]:
    """Indices of the `count` largest values, ascending; of equal values the first ones."""
    smallest = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > smallest)
    equal = np.flatnonzero(values == smallest)[: count - len(above)]
    return np.sort(np.concatenate((above, equal)))


def _nucleus(weights: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.intp]:
    """Indices of the fewest largest weights that reach `top_p` of the sum, largest first."""
    goal = top_p * weights.sum()
    count = min(256, len(weights))
    while True:
        # Sorting a whole vocabulary costs as much as a decode step; few tokens are enough.
        best = largest(weights, count)
        ordered = best[np.argsort(-weights[best], kind="stable")]
        reached = int(np.searchsorted(np.cumsum(weights[ordered]), goal, side="left"))
        if reached < count or count == len(weights):
            return ordered[: reached + 1]
        count = min(8 * count, len(weights))


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.floating)
        or not low <= value <= high
        or math.isinf(value)
    ):
        limit = "a number of 0 or more" if math.isinf(high) else f"a number from {low} to {high}"
        raise SparsecompError(f"{name}: is {value!r}, must be {limit}")


def _check_integer(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise SparsecompError(f"{name}: is {value!r}, must be an integer of {low} or more")
