"""How much of a budget is kept back for text of another kind."""

from __future__ import annotations

import numpy as np
import pytest

from sparsecomp.sparsify.search import (
    ABOVE_PREDICTED,
    LEARNED_SHIFT,
    OWN_SHIFT,
    cost_elsewhere,
)
from sparsecomp.sparsity import Approximate, Choice, Cutoff, Exact, LowRank, Narrow, Nested, Sketch

BITS: list[Choice | None] = [
    None,
    Narrow(bits=6, output_bits=8),
    Sketch(count=9, density=0.1, offset=0.0),
]
OWN: list[Choice | None] = [
    Cutoff(of=Exact.GATE, threshold=1.0, density=0.5),
    Nested(threshold=1.0, floor=0.5, density=0.3, coarse=0.2),
]
LEARNED: list[Choice | None] = [
    LowRank(rank=4, density=0.5, active=0.5),
    Approximate(rank=4, threshold=0.0, density=0.5, active=0.5),
]


CHANGE = np.array([0.25, -0.5, 1.0])
PREDICTED = 0.125


@pytest.mark.parametrize(("kinds", "shift"), [(OWN, OWN_SHIFT), (LEARNED, LEARNED_SHIFT)])
def test_the_choice_that_may_move_most_decides(kinds: list[Choice | None], shift: float) -> None:
    cost = pytest.approx(CHANGE.mean() + shift * CHANGE.std())
    for choice in kinds:
        assert cost_elsewhere(PREDICTED, [*BITS, choice], CHANGE) == cost
    learned = cost_elsewhere(PREDICTED, LEARNED, CHANGE)
    assert cost_elsewhere(PREDICTED, [*LEARNED, *OWN], CHANGE) == learned


def test_bits_cost_what_was_predicted_and_a_little_more() -> None:
    assert cost_elsewhere(PREDICTED, BITS, CHANGE) == ABOVE_PREDICTED * PREDICTED
