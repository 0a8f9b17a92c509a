"""A price is what the masked model does: the divergence that insert-predictors would cause."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from calibrate_support import POSITIONS, Model, windows
from torch.nn import functional as F
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.calibrate.approximation import Approximation, Inputs, approximate
from sparsecomp.calibrate.candidates import narrow as narrow_choices
from sparsecomp.calibrate.low_rank import Predictor
from sparsecomp.calibrate.narrow import narrow_costs
from sparsecomp.calibrate.price import Candidate, PowerLaw, SparseOutput, price
from sparsecomp.calibrate.resumable import Resumable
from sparsecomp.calibrate.sketch import HeadSketch, sketched
from sparsecomp.dialects import spz
from sparsecomp.observer import SilentObserver
from sparsecomp.passes.base import PassContext, function
from sparsecomp.passes.blocks import AttentionBlock, HeadBlock, MlpBlock, blocks
from sparsecomp.passes.insert_predictors import InsertPredictors
from sparsecomp.passes.narrow import narrowed, rounded_name
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.rounding import round_to
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import (
    FEWER_BITS,
    Approximate,
    Choice,
    Cutoff,
    Exact,
    LowRank,
    Narrow,
    Nested,
    Plan,
    Sketch,
)

RANK = 3


def predictor(inputs: int, units: int, seed: int = 0) -> Predictor:
    random = torch.Generator().manual_seed(seed)
    return Predictor(
        torch.randn(RANK, inputs, generator=random),
        torch.randn(units, RANK, generator=random),
        torch.zeros(units),
    )


@dataclass(frozen=True)
class Given:
    """The weights that the choices of a test need."""

    of_units: Predictor | None = None
    of_neurons: Approximation | None = None
    of_head: HeadSketch | None = None
    rounded: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def predictor(self, module: str, rank: int) -> Predictor:
        assert self.of_units is not None
        return self.of_units

    def approximation(self, module: str, rank: int) -> Approximation:
        assert self.of_neurons is not None
        return self.of_neurons

    def correction(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("nothing here is corrected")

    def narrow(self, module: str, choice: Narrow) -> Mapping[str, torch.Tensor]:
        return self.rounded

    def sketch(self, module: str) -> HeadSketch:
        assert self.of_head is not None
        return self.of_head


def log_p(
    model: Model, module: ModuleOp, window: np.ndarray, tensors: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Log probabilities (T, vocab) of @forward of a module, with these weights too."""

    def weights(wanted: str) -> torch.Tensor:
        return tensors[wanted] if wanted in tensors else model.weights(wanted)

    ids = torch.from_numpy(window.astype(np.int64))
    run = Interpreter(module, weights, POSITIONS).run
    (logits,) = run("forward", ids, torch.arange(len(ids)))
    return F.log_softmax(logits, dim=-1)


def masked(model: Model, name: str, choice: Choice, given: Given) -> float:
    """KL(dense || masked) in nats a token, through the pass itself."""
    module = model.module.clone()
    block = next(b for b in blocks(function(module, "forward")) if b.module == name)
    block.op.attributes["sparsity"] = spz.SparsityAttr(choice)
    ctx = PassContext(evaluate=evaluate, weights=model.weights, positions=POSITIONS)
    InsertPredictors()(module, ctx)
    tensors, total = Sparsified(Plan({}), given).weights({name: choice}), 0.0
    for window in windows():
        dense = log_p(model, model.module, window, {})
        sparse = log_p(model, module, window, tensors)
        total += float(F.kl_div(sparse, dense, reduction="sum", log_target=True))
    return total / sum(map(len, windows()))


def choices(model: Model) -> Iterator[tuple[str, Choice]]:
    gated = any(isinstance(op, spz.GatedMlp) for op in function(model.module, "forward").walk())
    for block in blocks(function(model.module, "forward"))[2:]:
        if isinstance(block.op, spz.LmHead):
            continue
        yield block.module, LowRank(rank=RANK, density=0.5, active=0.5, threshold=0.1)
        yield block.module, LowRank(rank=RANK, density=0.5, active=0.5, lookahead=1)
        if not isinstance(block.op, spz.Attention):
            yield (
                block.module,
                Approximate(rank=RANK, threshold=0.02 if gated else 1.0, density=0.5, active=0.5),
            )
            yield block.module, Cutoff(of=Exact.NEURON, threshold=0.01, density=0.5)
            yield block.module, Nested(threshold=0.02, floor=0.01, density=0.5, coarse=0.25)
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
        inputs = int(block.input.type.get_shape()[-1])  # type: ignore[attr-defined]
        approximation = None
        if isinstance(block, MlpBlock):
            neurons = Inputs.of(block.op, model.weights)
            approximation = approximate(neurons, torch.eye(inputs), RANK, 32, seed=0)
        given = Given(predictor(inputs, block.units), approximation)
        options = price(
            resumable,
            windows(),
            {name: [Candidate(choice)]},
            given,
            SilentObserver(),
        )
        (option,) = options[name]
        expected = masked(model, name, choice, given)
        assert expected > 0
        assert option.cost == pytest.approx(expected, rel=1e-3, abs=1e-9), (name, choice)


@pytest.mark.parametrize("kind", ["relu", "gated"])
def test_the_price_of_fewer_bits(kind: str, request: pytest.FixtureRequest) -> None:
    """That of the whole model with the weights of one side rounded: measured in the middle one of
    the widths, by the error in the others; of both sides their sum."""
    model: Model = request.getfixturevalue(kind)
    resumable = Resumable(model.module, model.weights, POSITIONS)
    runs = [resumable.run(window) for window in windows()]
    narrow = [block for block in resumable.blocks if not isinstance(block, HeadBlock)][-2:]
    assert len({type(block) for block in narrow}) == 2
    for block in narrow:
        both = Narrow(bits=5, output_bits=5)
        sides = narrowed(block, both)
        given = Given(
            rounded={
                rounded_name(name, bits): round_to(model.weights(name), bits)
                for side in sides
                for name in side.weights
                for bits in FEWER_BITS
            }
        )
        costs = narrow_costs(resumable, runs, block, tuple(narrow_choices(block)), given)
        assert len(costs) == 4 ** len(sides) - 1
        for bits in FEWER_BITS:
            *of_inputs, outputs = (rounded_model(model, side.weights, bits) for side in sides)
            inputs = sum(of_inputs)
            assert min(*of_inputs, outputs) > 0
            near = pytest.approx(1, rel=1e-3) if bits == both.bits else pytest.approx(1, abs=0.5)
            assert costs[Narrow(bits=bits, output_bits=8)] / inputs == near
            assert costs[Narrow(bits=8, output_bits=bits)] / outputs == near
            if isinstance(block, AttentionBlock):
                queries, keys = of_inputs
                alone = Narrow(bits=bits, output_bits=8, key_value_bits=8)
                assert costs[alone] / queries == near
                alone = Narrow(bits=8, output_bits=8, key_value_bits=bits)
                assert costs[alone] / keys == near
            sum_of_both = costs[Narrow(bits=bits, output_bits=bits)]
            assert sum_of_both / (inputs + outputs) == near
        candidates = {block.module: [Candidate(both)]}
        (option,) = price(resumable, windows(), candidates, given, SilentObserver())[block.module]
        assert option.cost == costs[both]


def rounded_model(model: Model, names: Sequence[str], bits: int) -> float:
    """KL(dense || rounded) in nats a token, with these weights in so many bits."""
    tensors = {name: round_to(model.weights(name), bits) for name in names}
    total = 0.0
    for window in windows():
        dense, rounded = (log_p(model, model.module, window, t) for t in ({}, tensors))
        total += float(F.kl_div(rounded, dense, reduction="sum", log_target=True))
    return total / sum(map(len, windows()))


def test_the_price_of_a_sketched_head(relu: Model) -> None:
    resumable = Resumable(relu.module, relu.weights, POSITIONS)
    (head,) = (block for block in resumable.blocks if isinstance(block, HeadBlock))
    weight = relu.weights(head.op.weight.string_value())
    runs = [resumable.run(window) for window in windows()]
    sketch = HeadSketch.of(weight, None, torch.cat([run.values[head.input] for run in runs]))
    counts = (2, 8, head.units)
    given = [Sketch(count=n, density=n / head.units, offset=0.01) for n in counts]
    given.append(Sketch(count=2, probability=1 / head.units, density=0.5, offset=0.01))
    found = price(
        resumable,
        windows(),
        {head.module: [Candidate(choice) for choice in given]},
        Given(of_head=sketch),
        SilentObserver(),
    )
    few, some, everything, probable = found[head.module]
    assert everything.cost == 0
    assert probable.cost < few.cost
    for option in (few, some, probable):
        expected = 0.0
        for run in runs:
            x = run.values[head.input]
            logits = F.linear(x, weight)
            log_q = F.log_softmax(sketched(option.choice, logits, sketch.scores(x)), 1)
            expected += float(F.kl_div(log_q, run.log_p, reduction="sum", log_target=True))
        expected /= sum(map(len, windows()))
        assert expected > 0
        assert option.cost == pytest.approx(expected, rel=1e-3, abs=1e-8)


def test_going_on_with_the_dense_output_changes_nothing(relu: Model) -> None:
    resumable = Resumable(relu.module, relu.weights, POSITIONS)
    run = resumable.run(windows()[0])
    for block in resumable.blocks:
        dense = run.values[block.op.results[0]]
        assert resumable.divergence(run, (block.op,), [dense]) == pytest.approx(0, abs=1e-9)


def test_exact_zeros_cost_nothing(relu: Model) -> None:
    resumable = Resumable(relu.module, relu.weights, POSITIONS)
    run = resumable.run(windows()[0])
    block = next(b for b in resumable.blocks if isinstance(b.op, spz.Mlp))
    zeros = Cutoff(of=Exact.NEURON, threshold=0.0, density=0.5)
    output = SparseOutput(resumable, run, block, Given()).of(zeros, None)
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
