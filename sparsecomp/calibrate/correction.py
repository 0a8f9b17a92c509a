"""What the high planes of an MLP's weights leave out, as a low-rank product of its inputs.

With E what is missing of (gate and) up and C the second moment of the inputs, the product of rank r
that leaves least of E x is the truncated SVD of E C^(1/2), put back by C^(-1/2). Its factors are
turned by a random rotation, so that all columns are alike: they are stored in 4 bits.
"""

from __future__ import annotations

import torch

PART = 9
"""The inputs of a block over the rank of its correction, about: an eighth of the high planes."""
ALIGN = 64
"""Ranks are whole blocks of nibbles."""
NARROW = 256
"""Inputs below which a correction costs more than it is worth."""
LEAST = 1e-6
"""Of the largest moment: what is less is taken for this much."""


def rank_for(inputs: int) -> int:
    """The rank worth its bytes for a block of so many inputs; 0: none."""
    return 0 if inputs < NARROW else max(round(inputs / PART / ALIGN), 1) * ALIGN


def correction(
    missing: torch.Tensor, moments: torch.Tensor, rank: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(basis, factors), float32 (rank, in) and (rows, rank): `factors @ basis @ x` is most of what
    `missing` (rows, in) would give of inputs x with these second moments (in, in)."""
    values, vectors = torch.linalg.eigh(moments.double())
    roots = values.clamp_min(LEAST * float(values[-1])).sqrt()
    product = missing.double() @ (vectors * roots)
    _, directions = torch.linalg.eigh(product.T @ product)
    best = directions[:, -rank:]
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(rank, rank, generator=generator, dtype=torch.float64))
    basis = turn @ best.T @ (vectors / roots).T
    return basis.float(), (product @ best @ turn.T).float()
