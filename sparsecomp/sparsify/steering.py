"""Which plan to try next, so that what is measured comes near all of the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

GOAL = 0.97
"""Of the budget: what attempts are steered to use."""
RETREAT = 0.7
"""The same as long as each used too much: less than in proportion is gained by spending less, for a
part of what is used, the margins, does not depend on it."""
ENOUGH = 0.92
"""Of the budget: a plan that is kept and uses this much is not improved further."""
CLOSE = 1.2
"""Spends no farther apart than by this factor are not told apart by another attempt."""
LEAST_STEP, MOST_STEP = 1 / 8, 4.0
"""By how much the spend may change from one attempt to the next."""


def next_spend(tried: Sequence[tuple[float, float]]) -> float | None:
    """The spend by prediction to try after these: pairs of a spend and of the share of the budget
    that it was measured to use, at least one. None where another attempt would not pay."""
    spend, used = tried[-1]
    low = max((s for s, u in tried if u <= 1), default=0.0)
    high = min((s for s, u in tried if u > 1), default=math.inf)
    if ENOUGH <= used <= 1 or high < low * CLOSE:
        return None
    goal = GOAL if low > 0 else RETREAT
    found = spend * min(max(goal / max(used, 0.01), LEAST_STEP), MOST_STEP)
    return found if low < found < high else math.sqrt(max(low, high / 16) * high)
