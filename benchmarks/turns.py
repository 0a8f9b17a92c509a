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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from sparsecomp.calibrate.text import DEFAULT_TEXT
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.bootstrap import Bootstrap, Estimate, quantile
from sparsecomp.runtime import Model, Session, load
from sparsecomp.texts import read_texts

Seconds = npt.NDArray[np.float64]
LEAST_ROUNDS = 2
"""Fewer say nothing about how certain a median is."""
AFTER_PROMPT = 8
"""Turns: a prompt takes as long as many of its tokens decoded."""


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


def take_turns(
    models: Sequence[Model], ids: Sequence[int], prompt: int, tokens: int, limit: float
) -> Seconds:
    """Seconds of each turn, (rounds, models): every model decodes the same `tokens`.

    They are of stretches of `ids`: `prompt` tokens that are not timed, then AFTER_PROMPT turns.
    What a sparse model reads depends on the text. Rounds go on for `limit` seconds, at least two;
    those of one stretch before are not counted. Raises SparsecompError for a prompt or tokens of
    none, or fewer ids than a stretch has.
    """
    if prompt < 1 or tokens < 1:
        raise SparsecompError(f"turns of {tokens} tokens after {prompt}: must be at least 1")
    length = prompt + AFTER_PROMPT * tokens
    if len(ids) < length:
        raise SparsecompError(f"the text has {len(ids)} tokens, {length} are needed")
    random = np.random.default_rng(0)
    taken: list[Seconds] = []
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(model.session(length)) for model in models]

        def stretch() -> Iterator[Seconds]:
            first = int(random.integers(len(ids) - length + 1))
            for session in sessions:
                session.rewind(0)
                session.prefill(ids[first : first + prompt])
            for start in range(first + prompt, first + length, tokens):
                seconds = np.empty(len(sessions))
                for place in random.permutation(len(sessions)):
                    seconds[place] = _turn(sessions[place], ids[start : start + tokens])
                yield seconds

        list(stretch())
        end = time.perf_counter() + limit
        while len(taken) < LEAST_ROUNDS or time.perf_counter() < end:
            taken += stretch()
    return np.stack(taken)


def _turn(session: Session, ids: Sequence[int]) -> float:
    began = time.perf_counter()
    for token in ids:
        session.decode(token)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT")
    parser.add_argument("--minutes", type=float, default=1.0, help="[%(default)s]")
    parser.add_argument("--prompt", type=int, default=32, help="tokens before [%(default)s]")
    parser.add_argument("--tokens", type=int, default=16, help="a turn decodes [%(default)s]")
    parser.add_argument("--text", type=Path, default=DEFAULT_TEXT, help="[the package's own]")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(load(path)) for path in options.artifacts]
        content = "".join(text.content for text in read_texts([options.text]))
        ids = models[0].encode(content)
        seconds = take_turns(models, ids, options.prompt, options.tokens, options.minutes * 60)
    print(f"{len(seconds)} rounds of {options.tokens} tokens; medians")
    for path, taken in zip(options.artifacts, seconds.T, strict=True):
        speed = options.tokens / np.median(taken)
        print(f"{path.name:28} {speed:7.2f} tokens/s  {Ratio.of(seconds[:, 0], taken)}")


if __name__ == "__main__":
    main()
