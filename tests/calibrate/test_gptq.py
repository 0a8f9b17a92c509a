"""Weights rounded one input after the other: what the output gains, and that rounding them to the
nearest again changes nothing."""

from __future__ import annotations

import pytest
import torch

from sparsecomp.calibrate.gptq import DAMPING, Compensation, gptq
from sparsecomp.rounding import round_to

ROWS, WIDTH = 24, 192


def weights() -> torch.Tensor:
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))


def moments(rank: int = 24) -> torch.Tensor:
    """Of inputs that mostly lie in a few directions, some of them ten times as large."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(4096, rank, generator=random) @ torch.randn(rank, WIDTH, generator=random)
    x += 0.3 * torch.randn(4096, WIDTH, generator=random)
    x[:, ::17] *= 10
    return x.T @ x / len(x)


def error(rounded: torch.Tensor, of: torch.Tensor) -> float:
    """Of the output, squared, an input."""
    missing = rounded - weights()
    return float(((missing @ of) * missing).sum())


@pytest.mark.parametrize("bits", [6, 5, 4])
def test_errors_make_up_for_each_other(bits: int) -> None:
    of = moments()
    nearest, found = round_to(weights(), bits), gptq(weights(), bits, [Compensation.by(of)])
    assert error(found, of) < 0.2 * error(nearest, of)
    assert (found - weights()).square().sum() > (nearest - weights()).square().sum()


@pytest.mark.parametrize("bits", [6, 5, 4])
def test_rounding_again_changes_nothing(bits: int) -> None:
    found = gptq(weights(), bits, [Compensation.by(moments())])
    again = round_to(found, bits)
    assert ((again != found).sum(1) <= 1).all()  # of an outlier what its code leaves is in bfloat16
    assert torch.allclose(again, found, rtol=2**-8, atol=0)
    assert torch.equal(round_to(again, bits), again)


def test_of_inputs_that_know_nothing_of_each_other_it_is_the_nearest() -> None:
    found = gptq(weights(), 6, [Compensation.by(torch.eye(WIDTH))])
    assert torch.allclose(found, round_to(weights(), 6), rtol=2**-8, atol=0)


def test_pieces_are_made_up_for_alone() -> None:
    of = moments()
    pieces = [of[:128, :128], of[128:, 128:]]
    apart = gptq(weights(), 6, [Compensation.by(piece) for piece in pieces])
    together = gptq(weights(), 6, [Compensation.by(torch.block_diag(*pieces))])
    assert (apart == together).float().mean() > 0.98  # sums in another order
    assert error(apart, of) < error(round_to(weights(), 6), of)


def test_inputs_that_are_never_there() -> None:
    of = moments()
    of[:, 5:100] = of[5:100] = 0
    found = gptq(weights(), 4, [Compensation.by(of)])
    assert found.isfinite().all()
    assert error(found, of) < 0.5 * error(round_to(weights(), 4), of)
    assert torch.allclose(
        gptq(weights(), 6, [Compensation.by(0 * of)]), round_to(weights(), 6), atol=0.3
    )


def test_what_an_error_costs_is_what_the_inputs_behind_it_do_not_know() -> None:
    of, inputs = moments().double(), Compensation.by(moments())
    of.diagonal().add_(DAMPING * of.diagonal().mean())
    assert of.diagonal()[inputs.order].diff().max() <= 0
    for place, at in enumerate(inputs.order):
        left = inputs.order[place:]
        alone = 1 / torch.linalg.inv(of[left][:, left])[0, 0]
        assert inputs.importance[at] == pytest.approx(float(alone), rel=1e-4)
