"""What the high planes of an MLP's weights leave out, as a low-rank product of its inputs.

Its factors are turned by a random rotation, so that all columns are alike: they are stored in 4
bits.
"""

from __future__ import annotations

import torch

from .best_product import best_product

PART = 9
"""The inputs of a block over the rank of its correction, about: an eighth of the high planes."""
ALIGN = 64
"""Ranks are whole blocks of nibbles."""
NARROW = 256
"""Inputs below which a correction costs more than it is worth."""


def rank_for(inputs: int) -> int:
    """The rank worth its bytes for a block of so many inputs; 0: none."""
    return 0 if inputs < NARROW else max(round(inputs / PART / ALIGN), 1) * ALIGN


def correction(
    missing: torch.Tensor, moments: torch.Tensor, rank: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(basis, factors), float32 (rank, in) and (rows, rank): `factors @ basis @ x` is most of what
    `missing` (rows, in) would give of inputs x with these second moments (in, in)."""
    basis, factors = best_product(missing.double() @ moments.double(), moments, rank)
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(rank, rank, generator=generator, dtype=torch.float64))
    return (turn @ basis).float(), (factors @ turn.T).float()
