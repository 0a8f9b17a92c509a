"""Approximations: at full rank they are the neurons, below it the best that their rank can do."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from sparsecomp.calibrate.approximation import Inputs, approximate
from sparsecomp.calibrate.bits import pack
from sparsecomp.calibrate.candidates import approximated, approximation_ranks
from sparsecomp.calibrate.low_rank import Rows, measure
from sparsecomp.dialects import spz
from sparsecomp.reference.spz import ACTS
from sparsecomp.sparsity import Approximate

WIDTH, UNITS, ROWS = 64, 160, 900
BITS = 32


def mlp(act: spz.Act, gated: bool) -> tuple[Inputs, torch.Tensor]:
    """Random weights, and inputs (rows, in) of which some directions are much larger."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    gate, gate_bias = (normal(UNITS, WIDTH), normal(UNITS)) if gated else (None, None)
    of = Inputs(act, gate, normal(UNITS, WIDTH), gate_bias, normal(UNITS), normal(UNITS).abs())
    mixed = torch.linalg.qr(normal(WIDTH, WIDTH))[0] / torch.arange(1, WIDTH + 1)
    return of, 4 * normal(ROWS, WIDTH) @ mixed.T


def moments(x: torch.Tensor) -> torch.Tensor:
    return x.T @ x / len(x)


def exact(of: Inputs, x: torch.Tensor) -> torch.Tensor:
    up = F.linear(x, of.up, of.up_bias)
    if of.gate is None:
        return ACTS[of.act](up)
    return ACTS[of.act](F.linear(x, of.gate, of.gate_bias)) * up


@pytest.mark.parametrize(
    ("act", "gated"), [(spz.Act.RELU, False), (spz.Act.SILU, True), (spz.Act.RELU, True)]
)
def test_at_full_rank_scores_are_exact(act: spz.Act, gated: bool) -> None:
    of, x = mlp(act, gated)
    made = approximate(of, moments(x), WIDTH, BITS, seed=0)
    assert made.basis.shape == (WIDTH, WIDTH) and made.up.shape == (UNITS, WIDTH)
    want = exact(of, x).abs() * of.norms
    torch.testing.assert_close(made.scores(x), want, rtol=1e-3, atol=1e-3)


def test_no_basis_of_the_rank_leaves_less_of_gate_and_up() -> None:
    of, x = mlp(spz.Act.SILU, True)
    made = approximate(of, moments(x), 12, BITS, seed=0)
    assert of.gate is not None and made.gate is not None
    true = torch.cat([x @ of.gate.T, x @ of.up.T], 1)
    z = x @ made.basis.T
    left = (torch.cat([z @ made.gate.T, z @ made.up.T], 1) - true).square().sum()
    values = torch.linalg.svdvals(true.double()).square()
    assert float(left / true.square().sum()) == pytest.approx(
        float(values[12:].sum() / values.sum()), rel=1e-3
    )


def test_what_is_left_out_is_a_margin_where_zeros_are_exact() -> None:
    """So most of the neurons that are active are among those above 0."""
    of, x = mlp(spz.Act.RELU, False)
    made = approximate(of, moments(x), 12, BITS, seed=0)
    assert of.up_bias is not None
    active = exact(of, x) > 0
    without = dataclasses.replace(made, bias=of.up_bias).scores(x) > 0
    found, missed = made.scores(x) > 0, active & ~without
    assert missed.sum() > 0.02 * active.sum()
    assert (active & ~found).sum() < 0.2 * missed.sum()
    smooth, x = mlp(spz.Act.SILU, True)
    assert torch.equal(approximate(smooth, moments(x), 12, BITS, seed=0).bias, smooth.gate_bias)


def test_four_bits_are_seen_in_scores_and_margins() -> None:
    of, x = mlp(spz.Act.RELU, False)
    fine, rough = (approximate(of, moments(x), 48, bits, seed=0) for bits in (BITS, 4))
    want = exact(of, x).abs() * of.norms
    errors = [float((made.scores(x) - want).square().sum()) for made in (fine, rough)]
    assert errors[1] > 2 * errors[0]
    assert bool((rough.bias > fine.bias).all()) and torch.equal(rough.up, fine.up)


@pytest.mark.parametrize(("act", "gated"), [(spz.Act.RELU, False), (spz.Act.SILU, True)])
def test_a_threshold_gives_the_density_asked_for(act: spz.Act, gated: bool) -> None:
    of, x = mlp(act, gated)
    rows = Rows(x, pack(exact(of, x) != 0), UNITS)
    made = approximate(of, moments(x), 16, BITS, seed=0)
    wanted = (0.05, 0.2, 0.4)
    for density, point in zip(wanted, measure(made, rows, torch.arange(ROWS), wanted), strict=True):
        choice = approximated(16, point).choice
        assert isinstance(choice, Approximate) and choice.rank == 16
        chosen = made.scores(x) > choice.threshold
        assert float(chosen.float().mean()) == pytest.approx(density, abs=2e-3)
        assert choice.density == pytest.approx(density, abs=2e-3)
        true = chosen & (exact(of, x) != 0)
        assert choice.active == pytest.approx(float(true.float().mean()), abs=1e-6)


def test_ranks() -> None:
    assert approximation_ranks(384, quantised=False) == (32, 64)
    assert approximation_ranks(384, quantised=True) == (64, 128)
    assert approximation_ranks(2048, quantised=True) == (320, 704)
    assert approximation_ranks(96, quantised=True) == ()
