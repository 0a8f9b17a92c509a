"""Codes of 2 bits that say more than 2 bits by themselves (trellis-coded quantisation, Marcellin
and Fischer, 1990; windows over a stream of bits as in QTIP, arXiv 2406.11235, section 3.1).

What a code stands for depends on the two before it: sketches.py has the levels. So a value has 64
levels to be near to, and the codes whose levels together are nearest to all values of a stream are
found by Viterbi's algorithm. Of the variance of normal values 0.085 is left as error, where the
best four levels leave 0.1175 (Max, 1960).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sparsecomp.sketches import LEVEL_MIDDLE, LEVELS

CODES = 4
STATES = CODES**2
"""What the two codes before may be."""
AT_ONCE = 2048
"""Streams: what is compared of them stays in a cache."""

_levels = torch.tensor(LEVELS) - LEVEL_MIDDLE


def nearest(values: torch.Tensor) -> torch.Tensor:
    """The codes, uint8 (streams, steps), whose levels have the least squared distance from values
    (streams, steps), float32."""
    return torch.cat([_nearest(some.T).T for some in values.split(AT_ONCE)])


def levels(codes: torch.Tensor) -> torch.Tensor:
    """What codes (streams, steps) stand for, less the middle, float32."""
    now = F.pad(codes.long(), (2, 0))
    return _levels[now[:, 2:] * STATES + now[:, 1:-1] * CODES + now[:, :-2]]


def _nearest(values: torch.Tensor) -> torch.Tensor:
    """Of values (steps, streams). A state is the last two codes, the later one first, and a window
    a code and the state before; so the windows that lead to a state differ by the code that falls
    out."""
    steps, streams = values.shape
    cost = torch.full((CODES, CODES, streams), torch.inf)
    cost[0, 0] = 0
    fallen = torch.empty(steps, STATES, streams, dtype=torch.uint8)
    for step, value in enumerate(values):
        # Squared distances but for the value's own square, which all have.
        distance = torch.addmm(_levels[:, None].square(), -2 * _levels[:, None], value[None])
        cost, out = (distance.view(CODES, CODES, CODES, -1) + cost).min(2)
        fallen[step] = out.view(STATES, streams)
    codes = torch.empty(steps, streams, dtype=torch.uint8)
    state, stream = cost.view(STATES, streams).argmin(0), torch.arange(streams)
    for step in reversed(range(steps)):
        codes[step] = state // CODES
        state = state % CODES * CODES + fallen[step, state, stream]
    return codes
