"""A sketch of a head: what it says exactly, how often its candidates are the best, its offset."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sparsecomp.calibrate.sketch import TOP, HeadSketch, best, candidates, fit, recall, sketched
from sparsecomp.sparsity import Sketch

VOCAB, WIDTH, ROWS, COUNT = 1500, 80, 600, 120


@pytest.fixture(scope="module")
def head() -> tuple[torch.Tensor, torch.Tensor]:
    """The weight (V, in) and bias (V,) of a head."""
    random = torch.Generator().manual_seed(1)
    weight = torch.randn(VOCAB, WIDTH, generator=random) + torch.randn(WIDTH, generator=random)
    return weight / 4, torch.randn(VOCAB, generator=random)


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    """Rows whose variance lies in some directions more than in others, none of them an axis."""
    random = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=random)).Q
    sizes = 4 * torch.arange(1, WIDTH + 1).float() ** -0.7
    return 3 + torch.randn(2 * ROWS, WIDTH, generator=random) * sizes @ turn.T


@pytest.fixture(scope="module")
def sketch(head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor) -> HeadSketch:
    return HeadSketch.of(*head, inputs[:ROWS])


def test_before_rounding_scores_are_logits(
    head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, sketch: HeadSketch
) -> None:
    axes = F.linear(inputs, sketch.axes, sketch.axes_bias)
    scores = F.linear(axes[:, :-1], sketch.rows, sketch.bias) + axes[:, -1:]
    torch.testing.assert_close(scores, F.linear(inputs, *head), atol=1e-3, rtol=1e-4)
    # The axes are uncorrelated on the inputs that made them, the largest variance first.
    made = axes[:ROWS, :-1] / sketch.axes[:-1].norm(dim=1)
    covariance = made.T.cov(correction=0)
    assert float((covariance - covariance.diag().diag()).abs().max()) < 1e-3
    assert (covariance.diag()[:-1] >= covariance.diag()[1:] - 1e-3).all()


def test_rounding_leaves_most_of_the_logits_variance(
    head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, sketch: HeadSketch
) -> None:
    logits = F.linear(inputs[ROWS:], *head)
    noise = (sketch.scores(inputs[ROWS:]) - logits).var() / logits.var(1).mean()
    assert 1e-4 < float(noise) < 0.05


def test_candidates_are_a_superset_of_the_best_at_the_calibrated_recall(
    head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, sketch: HeadSketch
) -> None:
    known, unseen = inputs[:ROWS], inputs[ROWS:]
    choice = fit(COUNT, 1.0, F.linear(known, *head), sketch.scores(known), lambda x: x)
    assert (choice.count, choice.probability) == (COUNT, 1.0)
    assert choice.density == pytest.approx(COUNT / VOCAB)
    calibrated = recall(choice, F.linear(known, *head), sketch.scores(known))
    logits, scores = F.linear(unseen, *head), sketch.scores(unseen)
    chosen = best(scores, COUNT)
    assert (chosen.sum(1) == COUNT).all()
    assert chosen.gather(1, logits.argmax(1, keepdim=True)).all()
    assert 0.99 < calibrated <= 1
    assert recall(choice, logits, scores) > calibrated - 0.005
    top = logits.topk(TOP, 1).indices
    assert float(chosen.gather(1, top).float().mean()) == recall(choice, logits, scores)


def test_the_offset_is_where_the_divergence_is_least(
    head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, sketch: HeadSketch
) -> None:
    """There the candidates have as much probability as they should, on average."""
    logits, scores = F.linear(inputs, *head) / 4, sketch.scores(inputs) / 4 - 0.7
    choice = fit(COUNT, 1.0, logits, scores, lambda x: x)
    assert choice.offset == pytest.approx(0.7, abs=0.05)
    chosen = best(scores, COUNT)
    mass = sketched(choice, logits, scores).softmax(1)[~chosen].sum() / len(logits)
    assert float(mass) == pytest.approx(
        float(logits.softmax(1)[~chosen].sum() / len(logits)), rel=0.02
    )


def test_probable_rows_are_candidates_besides_the_best(
    head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, sketch: HeadSketch
) -> None:
    """As many candidates, of the rows that matter, cost less than the same number everywhere."""
    exact = F.linear(inputs, *head)
    logits = exact * torch.linspace(0.1, 0.5, len(inputs))[:, None]  # some are more certain
    scores = logits + (sketch.scores(inputs) - exact) / 4
    likely = fit(TOP, 1 / VOCAB, logits, scores, lambda x: x)
    chosen = candidates(likely.count, likely.probability, scores)
    assert (chosen == (best(scores, TOP) | (scores.softmax(1) > 1 / VOCAB))).all()
    counts = chosen.sum(1)
    assert counts.min() >= TOP and counts.max() > 2 * counts.min()
    assert likely.density == pytest.approx(float(counts.float().mean()) / VOCAB)
    everywhere = fit(round(likely.density * VOCAB), 1.0, logits, scores, lambda x: x)

    def divergence(choice: Sketch) -> float:
        log_q = F.log_softmax(sketched(choice, logits, scores), 1)
        log_p = F.log_softmax(logits, 1)
        return float(F.kl_div(log_q, log_p, reduction="batchmean", log_target=True))

    assert 0 < divergence(likely) < 0.95 * divergence(everywhere)
