"""A token weighs what an error in it would cost."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sparsecomp.calibrate.sensitivity import sensitivities

TOKENS, WIDTH, WORDS = 6, 5, 7
generator = torch.Generator().manual_seed(0)
HEAD = torch.randn(WORDS, WIDTH, generator=generator, dtype=torch.float64)
OWN, SUMMED = torch.randn(2, TOKENS, WIDTH, generator=generator, dtype=torch.float64)


def logits(own: torch.Tensor, summed: torch.Tensor) -> torch.Tensor:
    """Of tokens that read what is their own, and what is of all up to them."""
    return F.linear(own.tanh() + summed.cumsum(0), HEAD)


def given() -> dict[str, torch.Tensor]:
    return {"own": OWN.clone().requires_grad_(), "summed": SUMMED.clone().requires_grad_()}


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_root_of_the_mean_square_of_the_gradient() -> None:
    values = given()
    found = sensitivities(logits(**values), values, drawn(3))
    words = torch.multinomial(logits(OWN, SUMMED).softmax(1), 1, generator=drawn(3))[:, 0]
    again = given()
    F.cross_entropy(logits(**again), words, reduction="sum").backward()
    for name, value in again.items():
        assert value.grad is not None
        assert torch.allclose(found[name], value.grad.square().mean(1).sqrt())


@pytest.mark.parametrize("name", ["own", "summed"])
def test_squares_are_what_errors_cost(name: str) -> None:
    """In divergence, token by token: half of the squared gradient times the squared error."""
    squares = torch.zeros(TOKENS, dtype=torch.float64)
    for seed in range(2000):
        values = given()
        squares += sensitivities(logits(**values), values, drawn(seed))[name].square() / 2000
    exact = logits(OWN, SUMMED).log_softmax(1)
    noise = 0.01 * torch.randn(2000, WIDTH, generator=drawn(1), dtype=torch.float64)
    for token in range(TOKENS):
        costs = []
        for error in noise:
            values = {"own": OWN.clone(), "summed": SUMMED.clone()}
            values[name][token] += error
            moved = logits(**values).log_softmax(1)
            costs.append(F.kl_div(moved, exact, reduction="sum", log_target=True))
        cost = float(torch.stack(costs).mean())
        assert cost == pytest.approx(0.5 * float(squares[token]) * WIDTH * 0.01**2, rel=0.12)


def test_a_gradient_that_is_not_finite_counts_nothing() -> None:
    values = given()
    with torch.no_grad():
        values["own"][2] = 0.0
    length = values["own"].square().sum(1, keepdim=True).sqrt()  # of 0 no gradient is known
    found = sensitivities(length * F.linear(values["summed"], HEAD), values, drawn(0))
    assert found["own"][2] == 0 and bool((found["own"][[0, 1, 3, 4, 5]] > 0).all())


def test_what_nothing_reads_counts_nothing() -> None:
    values = given() | {"unread": torch.ones(TOKENS, 2, requires_grad=True)}
    found = sensitivities(logits(values["own"], values["summed"]), values, drawn(0))
    assert found["unread"].tolist() == [0.0] * TOKENS
