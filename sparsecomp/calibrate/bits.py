"""Which units count, a bit each."""

from __future__ import annotations

import numpy as np
import torch


def pack(chosen: torch.Tensor) -> torch.Tensor:
    """(rows, units) bool -> (rows, ceil(units / 8)) uint8, the first unit in the lowest bit."""
    return torch.from_numpy(np.packbits(chosen.numpy(), axis=1, bitorder="little"))


def unpack(bits: torch.Tensor, units: int) -> torch.Tensor:
    """(rows, bytes) uint8 -> (rows, units) bool."""
    whole = np.unpackbits(bits.numpy(), axis=1, count=units, bitorder="little")
    return torch.from_numpy(whole).view(torch.bool)


def top(scores: torch.Tensor, density: float) -> torch.Tensor:
    """The packed bits of each row's `round(density * units)` largest scores (one at least)."""
    count = max(round(density * scores.shape[1]), 1)
    chosen = torch.zeros(scores.shape, dtype=torch.bool)
    chosen.scatter_(1, scores.topk(count, dim=1).indices, True)
    return pack(chosen)
