"""What the tests of evaluation share: models whose logits are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sparsecomp.evaluate import Window
from sparsecomp.evaluate.logits import Logits

VOCAB = 64
WORDS = " ".join(f"w{i}" for i in np.random.default_rng(7).integers(3, VOCAB, 300))
"""A text of 300 tokens for a tokenizer that makes a word w7 the token 7."""


@dataclass(frozen=True)
class Fake:
    """Answers `row(token)` after each token."""

    row: Callable[[int], list[float]]
    name: str = "fake"

    def logits(self, window: Window) -> Iterator[Logits]:
        for token in window.ids[window.first - 1 : -1].tolist():
            yield np.array(self.row(token), np.float32)


def windows(count: int, length: int, vocab: int = 4, seed: int = 0) -> list[Window]:
    random = np.random.default_rng(seed)
    return [Window(random.integers(vocab, size=length, dtype=np.int32), 2) for _ in range(count)]
