"""Corrections: the best product of their rank for the inputs that they are made for."""

from __future__ import annotations

import torch

from sparsecomp.calibrate.correction import correction, rank_for


def inputs(rows: int, width: int) -> torch.Tensor:
    """Inputs of which some directions are much larger than others."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(width, width, generator=generator) / torch.arange(1, width + 1)
    return torch.randn(rows, width, generator=generator) @ mixed.T


def left(missing: torch.Tensor, x: torch.Tensor, rank: int) -> float:
    """The share of what is missing that a correction leaves, squared."""
    basis, factors = correction(missing, x.T @ x / len(x), rank, seed=0)
    assert basis.shape == (rank, x.shape[1]) and factors.shape == (len(missing), rank)
    true = x @ missing.T
    return float((x @ basis.T @ factors.T - true).square().sum() / true.square().sum())


def test_no_product_of_the_rank_leaves_less() -> None:
    x = inputs(512, 40)
    missing = torch.randn(96, 40, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals((x @ missing.T).double()).square()
    for rank in (1, 8, 24):
        assert abs(left(missing, x, rank) - float(values[rank:].sum() / values.sum())) < 1e-4


def test_all_columns_of_the_factors_are_alike() -> None:
    x = inputs(512, 64)
    missing = torch.randn(256, 64, generator=torch.Generator().manual_seed(1))
    _, factors = correction(missing, x.T @ x / len(x), 16, seed=0)
    norms, values = factors.norm(dim=0), torch.linalg.svdvals(factors)
    assert values.max() > 3 * values.mean() and norms.max() < 2 * norms.mean()
    again = correction(missing, x.T @ x / len(x), 16, seed=0)
    assert torch.equal(factors, again[1])


def test_ranks() -> None:
    assert [rank_for(n) for n in (64, 384, 576, 2048)] == [0, 64, 64, 256]
