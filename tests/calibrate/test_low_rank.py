"""Predictors learn what can be learned, and their rules do what they say."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sparsecomp.calibrate.bits import pack, top, unpack
from sparsecomp.calibrate.histogram import Histogram
from sparsecomp.calibrate.low_rank import First, Rows, Trained, held_rows, measure, train

WIDTH, UNITS, RANK = 24, 60, 4
DENSITIES = (0.05, 0.2, 0.5, 1.0)


def planted(rows: int = 6000) -> tuple[Rows, First]:
    """Units that fire by a rule of rank 4, over inputs of unlike scales and means."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    scale = normal(WIDTH).exp()
    x = (normal(rows, WIDTH) + normal(WIDTH)) * scale
    matrix = normal(UNITS, RANK) @ (normal(RANK, WIDTH) / scale)
    values = x @ matrix.T
    bias = -values.quantile(0.8, dim=0)
    return Rows(x.bfloat16(), pack(values + bias > 0), UNITS), First(matrix, bias)


@pytest.fixture(scope="module")
def from_first() -> Trained:
    rows, first = planted()
    return train(rows, RANK, first=first, densities=DENSITIES, groups=[(5, 20), (3, 8)])


def test_bits_come_back() -> None:
    chosen = torch.rand(7, 13, generator=torch.Generator().manual_seed(0)) > 0.5
    assert pack(chosen).shape == (7, 2) and torch.equal(unpack(pack(chosen), 13), chosen)


def test_the_largest_of_a_row() -> None:
    scores = torch.tensor([[1.0, 4.0, 3.0, 2.0], [0.0, -1.0, 5.0, 6.0]])
    assert unpack(top(scores, 0.5), 4).tolist() == [
        [False, True, True, False],
        [False, False, True, True],
    ]
    assert unpack(top(scores, 0.01), 4).sum(1).tolist() == [1, 1]


def test_learns_a_planted_rule_from_the_true_matrix(from_first: Trained) -> None:
    assert from_first.density == pytest.approx(0.2, abs=0.01)
    assert from_first.recall > 0.95 and from_first.precision > 0.95


def test_learns_a_planted_rule_from_nothing() -> None:
    rows, _ = planted(20_000)
    trained = train(rows, 2 * RANK, max_epochs=20)
    # At random the recall would be the density, 0.2.
    assert trained.recall > 0.95
    assert trained.epochs > 1


def test_training_improves_on_the_start() -> None:
    rows, true = planted(20_000)
    noise = torch.randn(true.matrix.shape, generator=torch.Generator().manual_seed(2))
    first = First(true.matrix + 0.3 * noise * true.matrix.norm(dim=0) / UNITS**0.5, true.bias)
    at_once = train(rows, RANK, first=first, max_epochs=0)
    trained = train(rows, RANK, first=first, max_epochs=20)
    assert at_once.epochs == 0 and trained.epochs > 0
    assert trained.recall > 0.95 > at_once.recall > 0.5


def test_starts_from_what_an_earlier_input_says_of_the_true_one() -> None:
    rows, first = planted()
    generator = torch.Generator().manual_seed(5)
    # The earlier input is the true one, turned: only a regression finds the way back.
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))[0]
    scale = rows.inputs.float().std(dim=0)
    earlier = dataclasses.replace(rows, inputs=(rows.inputs.float() / scale) @ turn)
    given = dataclasses.replace(first, inputs=rows.inputs)
    trained = train(earlier, RANK, first=given, max_epochs=0)
    assert trained.recall > 0.95
    assert train(earlier, RANK, first=first, max_epochs=0).recall < 0.6


def test_the_same_seed_gives_the_same_predictor() -> None:
    rows, _ = planted(3000)
    one, two, other = (train(rows, RANK, seed=seed, max_epochs=2) for seed in (3, 3, 4))
    assert torch.equal(one.predictor.up, two.predictor.up)
    assert torch.equal(one.predictor.down, two.predictor.down)
    assert (one.recall, one.epochs) == (two.recall, two.epochs)
    assert not torch.equal(one.predictor.up, other.predictor.up)


def test_rules_do_what_they_say(from_first: Trained) -> None:
    rows, _ = planted()
    held = held_rows(len(rows))
    x, labels = rows.batch(held)
    scores = from_first.predictor.scores(x)
    assert len(from_first.points) == len(DENSITIES) + 2
    for point, density in zip(from_first.points, DENSITIES, strict=False):
        assert point.density == pytest.approx(density, abs=1e-3)
        chosen = scores > point.threshold
        assert float(chosen.float().mean()) == pytest.approx(density, abs=1e-3)
        hits = float((chosen & labels).sum())
        assert point.recall == pytest.approx(hits / float(labels.sum()), abs=1e-3)
        assert point.precision == pytest.approx(hits / float(chosen.sum()), abs=1e-3)
        assert point.active == pytest.approx(hits / labels.numel(), abs=1e-3)
    five, three = from_first.points[len(DENSITIES) :]
    assert (five.count, five.group, five.density) == (5, 20, 0.25)
    chosen = torch.zeros_like(labels)
    for start in range(0, UNITS, 20):
        best = scores[:, start : start + 20].topk(5, dim=1).indices + start
        chosen.scatter_(1, best, True)
    assert five.recall == pytest.approx(float((chosen & labels).sum() / labels.sum()))
    # The last group has four units, and three of them are chosen too.
    assert three.density == pytest.approx(24 / 60)


def test_held_rows_are_not_learned_from() -> None:
    rows, first = planted(3000)
    held = held_rows(len(rows))
    assert 100 <= len(held) <= 200
    labels = rows.labels.clone()
    labels[held] = ~labels[held]
    changed = dataclasses.replace(rows, labels=labels)
    one, two = (train(r, RANK, first=first, max_epochs=0) for r in (rows, changed))
    assert torch.equal(one.predictor.up, two.predictor.up)
    assert one.recall > 0.9 > two.recall


def test_a_rank_above_the_width_is_the_width() -> None:
    rows, first = planted(2000)
    trained = train(rows, 100, first=first, max_epochs=0)
    assert trained.predictor.down.shape == (WIDTH, WIDTH)


def test_no_true_unit_at_all() -> None:
    rows, first = planted(2000)
    none = dataclasses.replace(rows, labels=torch.zeros_like(rows.labels))
    trained = train(none, RANK, first=first, densities=[0.1])
    assert trained.points[0].recall == 0 and trained.points[0].active == 0
    assert all(bool(t.isfinite().all()) for t in vars(trained.predictor).values())


def test_measure_is_repeatable(from_first: Trained) -> None:
    rows, _ = planted()
    points = measure(from_first.predictor, rows, held_rows(len(rows)), DENSITIES)
    assert points == from_first.points[: len(DENSITIES)]


def test_histogram_of_many_scales() -> None:
    generator = torch.Generator().manual_seed(0)
    values = (8 * torch.randn(50_000, generator=generator)).exp()
    values[:10_000] = 0
    histogram = Histogram()
    for part in values.split(7000):
        histogram.add(part)
    assert histogram.total == 50_000 and histogram.density_at(0.0) == 0.8
    for density in (0.001, 0.1, 0.5, 0.79):
        exact = float(values.quantile(1 - density))
        assert histogram.threshold_at(density) == pytest.approx(exact, rel=0.03)
        assert histogram.density_at(exact) == pytest.approx(density, rel=0.02)
    assert histogram.threshold_at(0.8) == histogram.threshold_at(1.0) == 0.0
    assert histogram.density_at(float(values.max())) < 1e-4
    assert histogram.density_at(1e38) == 0.0
