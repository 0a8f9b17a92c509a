"""A price is what the masked model does: the divergence that insert-predictors would cause."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from calibrate_support import POSITIONS, Model, windows
from torch.nn import functional as F

from sparsecomp.calibrate.low_rank import Predictor
from sparsecomp.calibrate.price import Candidate, PowerLaw, Resumable, SparseOutput, price
from sparsecomp.dialects import spz
from sparsecomp.observer import SilentObserver
from sparsecomp.passes.base import PassContext, function
from sparsecomp.passes.blocks import blocks
from sparsecomp.passes.insert_predictors import InsertPredictors, predictor_names
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.sparsity import Choice, Cutoff, Exact, LowRank

RANK = 3


def predictor(inputs: int, units: int, seed: int = 0) -> Predictor:
    random = torch.Generator().manual_seed(seed)
    return Predictor(
        torch.randn(RANK, inputs, generator=random),
        torch.randn(units, RANK, generator=random),
        torch.zeros(units),
    )


def log_p(model: Model, module: object, window: np.ndarray, given: Predictor | None, name: str):  # type: ignore[no-untyped-def]
    """Log probabilities (T, vocab) of @forward of a module, with a predictor's weights."""
    tensors = {}
    if given is not None:
        tensors = dict(zip(predictor_names(name), (given.down, given.up, given.bias), strict=True))

    def weights(wanted: str) -> torch.Tensor:
        return tensors[wanted] if wanted in tensors else model.weights(wanted)

    ids = torch.from_numpy(window.astype(np.int64))
    run = Interpreter(module, weights, POSITIONS).run  # type: ignore[arg-type]
    (logits,) = run("forward", ids, torch.arange(len(ids)))
    return F.log_softmax(logits, dim=-1)


def masked(model: Model, name: str, choice: Choice, given: Predictor | None) -> float:
    """KL(dense || masked) in nats a token, through the pass itself."""
    module = model.module.clone()
    block = next(b for b in blocks(function(module, "forward")) if b.module == name)
    block.op.attributes["sparsity"] = spz.SparsityAttr(choice)
    ctx = PassContext(evaluate=evaluate, weights=model.weights, positions=POSITIONS)
    InsertPredictors()(module, ctx)
    total = 0.0
    for window in windows():
        dense = log_p(model, model.module, window, None, name)
        sparse = log_p(model, module, window, given, name)
        total += float(F.kl_div(sparse, dense, reduction="sum", log_target=True))
    return total / sum(map(len, windows()))


def choices(model: Model) -> Iterator[tuple[str, Choice]]:
    gated = any(isinstance(op, spz.GatedMlp) for op in function(model.module, "forward").walk())
    for block in blocks(function(model.module, "forward"))[2:]:
        yield block.module, LowRank(rank=RANK, density=0.5, active=0.5, threshold=0.1)
        yield block.module, LowRank(rank=RANK, density=0.5, active=0.5, lookahead=1)
        if not isinstance(block.op, spz.Attention):
            yield block.module, Cutoff(of=Exact.NEURON, threshold=0.01, density=0.5)
            if gated:
                yield block.module, Cutoff(of=Exact.GATE, threshold=0.01, density=0.5)


@pytest.mark.parametrize("kind", ["relu", "gated"])
def test_the_price_is_what_the_pass_does(kind: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(kind)
    resumable = Resumable(model.module, model.weights, POSITIONS)
    found = {block.module: block for block in resumable.blocks}
    tried = list(choices(model))
    assert len(tried) >= 5
    for name, choice in tried:
        block = found[name]
        given = predictor(int(block.input.type.get_shape()[-1]), block.units)  # type: ignore[attr-defined]
        options = price(
            resumable,
            windows(),
            {name: [Candidate(choice)]},
            lambda module, rank, given=given: given,  # type: ignore[misc]
            SilentObserver(),
        )
        (option,) = options[name]
        expected = masked(model, name, choice, given if isinstance(choice, LowRank) else None)
        assert expected > 0
        assert option.cost == pytest.approx(expected, rel=1e-3, abs=1e-9), (name, choice)


def test_going_on_with_the_dense_output_changes_nothing(relu: Model) -> None:
    resumable = Resumable(relu.module, relu.weights, POSITIONS)
    run = resumable.run(windows()[0])
    for block in resumable.blocks:
        dense = run.values[block.op.results[0]]
        assert resumable.divergence(run, block, dense) == pytest.approx(0, abs=1e-9)


def test_exact_zeros_cost_nothing(relu: Model) -> None:
    resumable = Resumable(relu.module, relu.weights, POSITIONS)
    run = resumable.run(windows()[0])
    block = next(b for b in resumable.blocks if isinstance(b.op, spz.Mlp))
    zeros = Cutoff(of=Exact.NEURON, threshold=0.0, density=0.5)
    output = SparseOutput(resumable, run, block).of(zeros, None)
    torch.testing.assert_close(output, run.values[block.op.results[0]])


def test_a_power_law_goes_through_its_points() -> None:
    law = PowerLaw.through({2.0: 3.0, 8.0: 12.0})
    assert law(2.0) == pytest.approx(3.0) and law(8.0) == pytest.approx(12.0)
    assert law.power == pytest.approx(1.0)
    assert PowerLaw.through({4.0: 2.0})(8.0) == pytest.approx(4.0)
    # Noise in the weak point does not bend it beyond a power of 1.5; the strong one is kept.
    bent = PowerLaw.through({1.0: 1e-9, 10.0: 1.0})
    assert bent.power == 1.5 and bent(10.0) == pytest.approx(1.0)
    assert math.isfinite(PowerLaw.through({1.0: 0.0, 2.0: 0.0})(1.5))
