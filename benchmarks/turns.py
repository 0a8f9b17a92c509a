"""Speed ratios on a machine whose memory is faster in one second than in the next: short turns.

A long turn measures what the machine was like for one model, the next one what it was for another.
A turn of a token or two is over before that changes much. Each round has the turns in an order
drawn anew, so that none has a place of its own, and what counts is the median of many rounds.

    python benchmarks/turns.py dense.spz sparse.spz ..  # all over the first
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.bootstrap import Bootstrap, Estimate, quantile
from sparsecomp.runtime import Model, Session, load

Seconds = npt.NDArray[np.float64]
LEAST_ROUNDS = 2
"""Fewer say nothing about how certain a median is."""


@dataclass(frozen=True)
class Ratio:
    """Of speeds, over rounds: the median with its 95 % bootstrap interval, and the range of nine in
    ten rounds."""

    median: Estimate
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.median.value:.3f}x "
            f"(95 %: {self.median.low:.3f} to {self.median.high:.3f}; "
            f"nine of ten rounds {self.low:.3f} to {self.high:.3f})"
        )

    @classmethod
    def of(cls, base: Seconds, other: Seconds) -> Self:
        """How much faster `other` is than `base`, by their seconds in each round, (rounds,)."""
        ratios = base / other
        low, high = np.quantile(ratios, [0.05, 0.95])
        median = Bootstrap(np.arange(len(ratios))).estimate(quantile(ratios, 0.5))
        return cls(median, float(low), float(high))


def take_turns(models: Sequence[Model], prompt: int, tokens: int, limit: float) -> Seconds:
    """Seconds of each turn, (rounds, models): every model decodes the same random tokens.

    `prompt` random tokens come before them. Rounds go on for `limit` seconds, at least two; one
    before them is not counted. Raises SparsecompError for a prompt or tokens of none.
    """
    if prompt < 1 or tokens < 1:
        raise SparsecompError(f"turns of {tokens} tokens after {prompt}: must be at least 1")
    random = np.random.default_rng(0)
    vocabulary = min(model.manifest.model.vocab_size for model in models)
    first = random.integers(vocabulary, size=prompt).tolist()
    taken: list[Seconds] = []
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(model.session(prompt + tokens)) for model in models]
        for session in sessions:
            session.prefill(first)
            _turn(session, prompt, first[:tokens])
        end = time.perf_counter() + limit
        while len(taken) < LEAST_ROUNDS or time.perf_counter() < end:
            ids = random.integers(vocabulary, size=tokens).tolist()
            seconds = np.empty(len(sessions))
            for place in random.permutation(len(sessions)):
                seconds[place] = _turn(sessions[place], prompt, ids)
            taken.append(seconds)
    return np.stack(taken)


def _turn(session: Session, prompt: int, ids: Sequence[int]) -> float:
    session.rewind(prompt)
    began = time.perf_counter()
    for token in ids:
        session.decode(token)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT")
    parser.add_argument("--minutes", type=float, default=1.0, help="[%(default)s]")
    parser.add_argument("--prompt", type=int, default=32, help="random tokens before [%(default)s]")
    parser.add_argument("--tokens", type=int, default=16, help="a turn decodes [%(default)s]")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(load(path)) for path in options.artifacts]
        seconds = take_turns(models, options.prompt, options.tokens, options.minutes * 60)
    print(f"{len(seconds)} rounds of {options.tokens} tokens; medians")
    for path, taken in zip(options.artifacts, seconds.T, strict=True):
        speed = options.tokens / np.median(taken)
        print(f"{path.name:28} {speed:7.2f} tokens/s  {Ratio.of(seconds[:, 0], taken)}")


if __name__ == "__main__":
    main()
