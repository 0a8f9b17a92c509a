"""What is chosen where it is scored: in Triton's interpreter beside the reference, and compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_triton_dense import linear
from test_triton_sparse import INT8, MLP, on_grid
from triton_support import Program, attribute, begin, check, fits, kernels, scope_of
from xdsl.dialects.builtin import ModuleOp, bf16, f32
from xdsl.ir import Attribute, SSAValue

from sparsecomp.codegen.triton.select import calls
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import Layout
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.fuse_selection import FuseSelection

CONTEXT = PassContext(evaluate=None, weights=None, positions=8)  # type: ignore[arg-type]
How = dict[str, Any]


def fused(program: Program) -> ModuleOp:
    """With every selection in the launch of what scores."""
    FuseSelection().apply(program.module, CONTEXT)
    assert not any(isinstance(op, exec.Select) for op in kernels(program.module))
    return program.module


def listed(program: Program, scores: SSAValue, how: How) -> SSAValue:
    units = exec.shape_of(scores)[1]
    found = program.buffer(1, 1 + units)
    program.kernel(exec.Select, scores, found, density=0.3, part=MLP, **how)
    return found


def summed(program: Program, found: SSAValue, units: int) -> None:
    """The sum of the columns that a list names."""
    left = program.buffer(1, 6)
    program.kernel(
        exec.SparseLinear,
        program.buffer(1, units),
        found,
        left,
        weight=program.weights(Layout.COLUMNS, 6, units),
        side=spz.SideAttr(spz.Side.INPUTS),
        blocks=units,
        density=0.3,
        part=MLP,
    )
    program.kernel(exec.Sum, left, program.buffer(1, 6))


def predicted(element: Attribute, *hows: How, units: int = 70, size: int = 40) -> ModuleOp:
    """Units chosen by a matrix of a predictor, and then read."""
    program = Program(element)
    x, scores = program.buffer(1, size), program.buffer(1, units)
    linear(program, x, scores, size, units)
    for how in hows:
        summed(program, listed(program, scores, how), units)
    return fused(program)


CHOICES: dict[str, tuple[How, ...]] = {
    "none": ({"threshold": 9.0},),
    "all": ({"threshold": -9.0},),
    "few": ({"threshold": 1.2},),
    "two lists": ({"threshold": 0.7}, {"threshold": -0.3, "below": 0.7}),
    "magnitude": ({"threshold": 1.0, "magnitude": True},),
    "best of groups": ({"count": 3, "group": 16},),
    "best of one group": ({"count": 9, "group": 70, "magnitude": True},),
}


@pytest.mark.parametrize("name", CHOICES)
def test_chosen_by_a_predictor(name: str, tmp_path: Path) -> None:
    """In segments of 16 units, some of which are empty."""
    torch.manual_seed(3)
    module = predicted(f32, *CHOICES[name])
    run = begin(module, tmp_path)
    check(run, given=[torch.randn(1, 40), *torch.randn(len(CHOICES[name]), 1, 70)])
    (launch,) = (op for op in kernels(module) if isinstance(op, exec.Launch))
    scores, _, select, *_ = launch.body.block.ops
    assert isinstance(scores, exec.Buffer) and isinstance(select, exec.Select)
    assert run.floats(scores.result).isnan().all()  # they are nowhere
    counted = run.counted(select)
    assert (0 in counted and sum(counted) > 0) == (name == "few")
    run.launch(launch)
    assert run.counted(select) == [2 * n for n in counted]


@pytest.mark.parametrize("element", (bf16, INT8), ids=str)
def test_chosen_by_a_predictor_of_fewer_bits(element: Attribute, tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = predicted(element, {"threshold": 0.5})
    check(begin(module, tmp_path), given=[on_grid(40), torch.randn(1, 70)])


def test_layers_share_kernels() -> None:
    """Their thresholds are data."""
    modules = (predicted(f32, {"threshold": t, "below": t + 1}) for t in (0.25, 0.5))
    one, other = (
        [call.kernel for op in kernels(module) for call in calls(op, scope_of(module))]
        for module in modules
    )
    assert one == other


def test_the_first_of_equals_are_best(tmp_path: Path) -> None:
    module = predicted(f32, {"count": 3, "group": 16}, size=4)
    weights = {"s1.0": (torch.arange(70) // 5 * 7 % 5)[:, None] * torch.ones(4)}
    weights["s2.0"] = torch.zeros(70)
    check(begin(module, tmp_path, weights=weights), given=[torch.ones(1, 4), torch.randn(1, 70)])


def sorted_neurons(
    element: Attribute, nested: bool, *, count: int = 70, size: int = 40, width: int = 50
) -> ModuleOp:
    """A gated MLP of which neurons are chosen by their values; nested: by coarse ones, which count
    themselves where they are not small."""
    program = Program(element)
    x, values, scales = program.buffer(1, size), program.buffer(1, count), program.floats(count)
    weights = program.weights(Layout.NEURON_MAJOR, count, size, width, matrices=3)
    neurons: How = {"weights": weights, "act": spz.ActAttr(spz.Act.RELU), "gated": True}
    operands = [x]
    if nested:
        operands.append(program.buffer(1, 48))
        neurons["correction"] = program.weights(Layout.ROWS, 2 * count, 48)
        neurons["coarse"] = True
    program.kernel(exec.Neurons, *operands, values, **neurons)
    how = {"magnitude": True, "scales": scales}
    fine = listed(program, values, {"threshold": 0.2} | how)
    properties = {k: attribute(neurons[k]) for k in ("weights", "act", "gated")}
    properties |= {k: attribute(0.3) for k in ("density", "active")}
    known: list[SSAValue | None] = [values, None, None]
    if nested:
        rest = listed(program, values, {"threshold": 0.02, "below": 0.2} | how)
        known = [None, rest, values]
        properties["rest_density"] = attribute(0.3)
    left = program.buffer(1, width)
    program.block.add_op(
        exec.SparseMlp.build(operands=[x, fine, *known, left], properties=properties)
    )
    program.kernel(exec.Sum, left, program.buffer(1, width))
    return fused(program)


@pytest.mark.parametrize("element", (f32, bf16, INT8), ids=str)
def test_neurons_chosen_by_their_values(element: Attribute, tmp_path: Path) -> None:
    torch.manual_seed(4)
    nested = element == INT8
    module = sorted_neurons(element, nested)
    weights = {"s1.0": torch.rand(70)}
    check(begin(module, tmp_path, weights=weights), given=[on_grid(40), *[on_grid(48)] * nested])


def test_attention_of_heads_chosen_by_a_predictor(tmp_path: Path) -> None:
    """The list of heads above a threshold has segments too."""
    program = Program()
    slot = program.slot(10, 8, 5)
    x, scores = program.buffer(1, 12), program.buffer(1, 20)
    linear(program, x, scores, 12, 20)
    found = listed(program, scores, {"threshold": 0.8})
    q, left = program.buffer(1, 20, 8), program.buffer(1, 20, 32)
    k, v = program.buffer(1, 10, 8), program.buffer(1, 10, 5)
    program.kernel(exec.Append, k, v, slot=slot)
    program.kernel(exec.Attend, q, found, left, slot=slot, scale=0.3)
    program.kernel(exec.Combine, left, found, program.buffer(1, 20, 5))
    torch.manual_seed(5)
    shapes = ((12,), (20, 8), (10, 8), (10, 5))
    run = begin(fused(program), tmp_path, position=9)
    check(run, given=[torch.randn(1, *shape) for shape in shapes])
    attend = next(op for op in kernels(run.module) if isinstance(op, exec.Attend))
    assert set(run.counted(attend)) == {0, 10}  # positions, of the groups that were read


def test_what_is_chosen_where_it_is_scored_fits() -> None:
    """OPT-6.7B's neurons, Llama-2-7B's."""
    above: How = {"threshold": 0.5}
    fits(predicted(bf16, above, units=16384, size=320))
    fits(predicted(INT8, above, units=16384, size=320), archs=(80,))
    fits(predicted(bf16, {"count": 16, "group": 256}, units=16384, size=320), archs=(90,))
    fits(sorted_neurons(bf16, False, count=11008, size=4096, width=4096), archs=(90,))
    fits(sorted_neurons(INT8, True, count=11008, size=4096, width=4096), archs=(80,))
