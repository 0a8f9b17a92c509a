"""Codes of few bits that say more than these by themselves (trellis-coded quantisation, Marcellin
and Fischer, 1990; windows over a stream of bits as in QTIP, arXiv 2406.11235, section 3.1).

What a code stands for depends on those before it: sketches.py has the levels. So a value has 64
levels to be near to, and the codes whose levels together are nearest to all values of a stream are
found by Viterbi's algorithm. Of the variance of normal values 2 bits leave 0.085 as error and 1 bit
0.291, where the best four and two levels by themselves leave 0.1175 and 0.363 (Max, 1960).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sparsecomp.sketches import LEVEL_MIDDLE, WINDOW, Trellis

AT_ONCE = 2048
"""Streams: what is compared of them stays in a cache."""


def nearest(values: torch.Tensor, trellis: Trellis) -> torch.Tensor:
    """The codes, uint8 (streams, steps), whose levels have the least squared distance from values
    (streams, steps), float32."""
    return torch.cat([_nearest(some.T, trellis).T for some in values.split(AT_ONCE)])


def levels(codes: torch.Tensor, trellis: Trellis) -> torch.Tensor:
    """What codes (streams, steps) stand for, less the middle, float32."""
    steps, length = codes.shape[1], WINDOW // trellis.bits
    stream = F.pad(codes.long(), (length - 1, 0))
    windows = torch.zeros_like(stream[:, :steps])
    for place in range(length):
        windows |= stream[:, place : place + steps] << (place * trellis.bits)
    return _levels(trellis)[windows]


def _levels(trellis: Trellis) -> torch.Tensor:
    return torch.tensor(trellis.levels) - LEVEL_MIDDLE


def _nearest(values: torch.Tensor, trellis: Trellis) -> torch.Tensor:
    """Of values (steps, streams). A state is the codes before, the latest highest, and a window a
    code above the state; so the windows that lead to a state differ in their lowest code, which
    falls out."""
    steps, streams = values.shape
    given, codes = _levels(trellis), 1 << trellis.bits
    states = len(given) // codes
    cost = torch.full((states, streams), torch.inf)
    cost[0] = 0
    fallen = torch.empty(steps, states, streams, dtype=torch.uint8)
    for step, value in enumerate(values):
        # Squared distances but for the value's own square, which all have.
        distance = torch.addmm(given[:, None].square(), -2 * given[:, None], value[None])
        costs = (distance.view(codes, states, streams) + cost).view(states, codes, streams)
        cost, out = costs.min(1)
        fallen[step] = out
    found = torch.empty(steps, streams, dtype=torch.uint8)
    state, stream = cost.argmin(0), torch.arange(streams)
    for step in reversed(range(steps)):
        found[step] = state // (states // codes)
        state = (state * codes + fallen[step, state, stream]) % states
    return found
