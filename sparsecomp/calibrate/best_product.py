"""The product of low rank that says most about one vector by another."""

from __future__ import annotations

import torch

LEAST = 1e-6
"""Of the largest moment: what is less is taken for this much."""


def best_product(
    cross: torch.Tensor, moments: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(basis, factors), float64 (rank, in) and (rows, rank): of all products of this rank
    `factors @ basis @ x` leaves least of y, in mean square.

    `moments` (in, in) are the second moments of x, `cross` (rows, in) those of y with x: W C where
    y is W x and C the moments of x. In coordinates in which x is white this is a truncated SVD; the
    strongest direction comes last, and the columns of the factors are as long as what they add.
    """
    values, vectors = torch.linalg.eigh(moments.double())
    roots = values.clamp_min(LEAST * float(values[-1])).sqrt()
    whiten = (vectors / roots).T
    image = cross.double() @ whiten.T
    _, directions = torch.linalg.eigh(image.T @ image)
    best = directions[:, -rank:]
    return best.T @ whiten, image @ best
