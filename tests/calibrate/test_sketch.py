"""A sketch of a head: what it says exactly, how often its candidates are the best, its offset."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from sparsecomp.calibrate.sketch import (
    TOP,
    HeadSketch,
    Scores,
    best,
    candidates,
    fit,
    fit_cascade,
    recall,
    sketched,
)
from sparsecomp.sparsity import Cascade, Sketch

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
    noise = (sketch.scores(inputs[ROWS:]).plain - logits).var() / logits.var(1).mean()
    assert 1e-4 < float(noise) < 0.05


def test_candidates_are_a_superset_of_the_best_at_the_calibrated_recall(
    head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, sketch: HeadSketch
) -> None:
    known, unseen = inputs[:ROWS], inputs[ROWS:]
    choice = fit(COUNT, 1.0, F.linear(known, *head), sketch.scores(known).plain, lambda x: x)
    assert (choice.count, choice.probability) == (COUNT, 1.0)
    assert choice.density == pytest.approx(COUNT / VOCAB)
    calibrated = recall(choice, F.linear(known, *head), sketch.scores(known))
    logits, scores = F.linear(unseen, *head), sketch.scores(unseen)
    chosen = best(scores.plain, COUNT)
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
    logits, scores = F.linear(inputs, *head) / 4, sketch.scores(inputs).plain / 4 - 0.7
    choice = fit(COUNT, 1.0, logits, scores, lambda x: x)
    assert choice.offset == pytest.approx(0.7, abs=0.05)
    chosen = best(scores, COUNT)
    mass = sketched(choice, logits, Scores(scores)).softmax(1)[~chosen].sum() / len(logits)
    assert float(mass) == pytest.approx(
        float(logits.softmax(1)[~chosen].sum() / len(logits)), rel=0.02
    )


def test_probable_rows_are_candidates_besides_the_best(
    head: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, sketch: HeadSketch
) -> None:
    """As many candidates, of the rows that matter, cost less than the same number everywhere."""
    exact = F.linear(inputs, *head)
    logits = exact * torch.linspace(0.1, 0.5, len(inputs))[:, None]  # some are more certain
    scores = logits + (sketch.scores(inputs).plain - exact) / 4
    likely = fit(TOP, 1 / VOCAB, logits, scores, lambda x: x)
    chosen = candidates(likely.count, likely.probability, scores)
    assert (chosen == (best(scores, TOP) | (scores.softmax(1) > 1 / VOCAB))).all()
    counts = chosen.sum(1)
    assert counts.min() >= TOP and counts.max() > 2 * counts.min()
    assert likely.density == pytest.approx(float(counts.float().mean()) / VOCAB)
    everywhere = fit(round(likely.density * VOCAB), 1.0, logits, scores, lambda x: x)

    def divergence(choice: Sketch) -> float:
        log_q = F.log_softmax(sketched(choice, logits, Scores(scores)), 1)
        log_p = F.log_softmax(logits, 1)
        return float(F.kl_div(log_q, log_p, reduction="batchmean", log_target=True))

    assert 0 < divergence(likely) < 0.95 * divergence(everywhere)


def divergence(choice: Sketch, logits: torch.Tensor, scores: Scores) -> float:
    log_q = F.log_softmax(sketched(choice, logits, scores), 1)
    return float(F.kl_div(log_q, F.log_softmax(logits, 1), reduction="batchmean", log_target=True))


def test_a_cascade_scores_the_best_once_more() -> None:
    """Of a head of 400 axes: the first scores know the half of the coarse ones, and of these a bit;
    with the second ones a cascade costs less than the first scores alone do, with more candidates.
    """
    random, width = torch.Generator().manual_seed(3), 400
    head = torch.randn(VOCAB, width, generator=random) / 6
    inputs = torch.randn(2 * ROWS, width, generator=random)
    inputs *= 4 * torch.arange(1, width + 1).float() ** -0.5
    sketch = HeadSketch.of(head, None, inputs[:ROWS])
    known, unseen = (F.linear(x, head) for x in (inputs[:ROWS], inputs[ROWS:]))
    fitted, scores = sketch.scores(inputs[:ROWS]), sketch.scores(inputs[ROWS:])
    assert scores.first is not None and scores.added is not None
    errors = [
        float((by - unseen).square().mean())
        for by in (scores.first, scores.plain, scores.first + scores.added)
    ]
    assert errors[2] < errors[1] < errors[0] / 5

    first = fit(400, 1.0, known, fitted.first, lambda x: x)
    choice = fit_cascade(first, 50, 2 / VOCAB, known, fitted, lambda x: x)
    assert (choice.first_count, choice.count) == (400, 50)
    assert choice.first_density == pytest.approx(400 / VOCAB)
    by = scores.by(choice)
    worth = best(scores.first, 400)
    assert torch.equal(by[worth], (scores.first + scores.added)[worth])
    torch.testing.assert_close(by[~worth], scores.first[~worth] + choice.first_offset)
    chosen = candidates(50, 2 / VOCAB, by)
    logits = sketched(choice, unseen, scores)
    assert torch.equal(logits[chosen], unseen[chosen])
    assert torch.equal(logits[~chosen], by[~chosen] + choice.offset)
    # The others have the offset that the first scores alone would have.
    assert choice.first_offset + choice.offset == pytest.approx(first.offset, abs=2e-3)
    cost = divergence(choice, unseen, scores)
    alone = Scores(scores.first)
    assert 0 < cost < divergence(fit(200, 1.0, known, fitted.first, lambda x: x), unseen, alone)
    # Neither offset could be another for much less.
    for name in ("offset", "first_offset"):
        for more in (-0.1, 0.1):
            other = replace(choice, **{name: getattr(choice, name) + more})
            assert divergence(other, unseen, scores) > 0.98 * cost
    assert recall(choice, unseen, scores) > 0.97


def test_where_all_axes_are_fine_there_is_no_cascade() -> None:
    random = torch.Generator().manual_seed(4)
    head, inputs = (torch.randn(n, 40, generator=random) for n in (90, 70))
    scores = HeadSketch.of(head, None, inputs).scores(inputs)
    assert scores.first is None and scores.added is None
    given = {"count": 9, "density": 0.1, "offset": 0.5}
    cascade = Cascade(**given, first_count=20, first_density=0.2, first_offset=0.25)
    logits = F.linear(inputs, head)
    assert torch.equal(sketched(cascade, logits, scores), sketched(Sketch(**given), logits, scores))
