"""The kernels of ops that choose units, or that read the chosen ones alone: for one row."""

from __future__ import annotations

from xdsl.dialects.builtin import IntegerAttr, UnitAttr, i64
from xdsl.ir import Attribute, Operation, SSAValue

from sparsecomp.dialects import exec, spz
from sparsecomp.passes.base import PassError
from sparsecomp.passes.build import shape_of
from sparsecomp.passes.choose_layouts import approximation_need, mlp_need, symbols

from .part import part_of
from .program import Lowering, ProgramBuilder


def _one_row(program: ProgramBuilder, op: Operation) -> SSAValue:
    """The first operand of an op that must have one row."""
    if len(shape_of(op.operands[0])) != 2 or shape_of(op.operands[0])[0] != 1:
        raise PassError(op, "works on other than one row, which has no native kernel")
    return program.dense(op.operands[0])


def predict(program: ProgramBuilder, op: spz.Predict) -> None:
    x = _one_row(program, op)
    down, up = (program.storage((exec.Layout.ROWS, symbols(op, n))) for n in ("down", "up"))
    part = exec.PartAttr(exec.Part.PREDICTORS)
    rank = program.buffer((1, exec.find_storage(program.func, down).dims[0]))
    program.kernel(
        exec.Linear, [program.factor(x, down), rank.value], {"weight": down, "part": part}
    )
    program.kernel(
        exec.Linear,
        [program.factor(rank.value, up), program.result(op.result).value],
        {"weight": up, "bias": program.floats(op, "bias"), "part": part},
    )


def neurons(program: ProgramBuilder, op: spz.Neurons) -> None:
    own = op.approximate is not None
    need = approximation_need(op) if own else program.storages.neurons(op)
    if need is None:
        raise PassError(op, "reads weights that are not those of an MLP's neurons")
    weights = program.storage(need)
    operands = [program.factor(_one_row(program, op), weights)]
    correction = None
    if op.z is not None:
        correction = program.storage((exec.Layout.ROWS, symbols(op, "correction")))
        operands.append(program.factor(program.dense(op.z), correction))
    program.kernel(
        exec.Neurons,
        [*operands, program.result(op.result).value],
        {
            "weights": weights,
            "correction": correction,
            "coarse": op.coarse,
            "gate_bias": program.floats(op, "gate_bias"),
            "up_bias": program.floats(op, "up_bias"),
            "gated": None if op.gate is None else UnitAttr(),
            "gate_only": UnitAttr() if op.up is None else None,
            "act": op.act,
        },
    )


def select(program: ProgramBuilder, op: spz.Select) -> None:
    scores = _one_row(program, op)
    neurons = op.scores.owner
    exact = isinstance(neurons, spz.Neurons) and neurons.approximate is None
    names = ("threshold", "below", "count", "group", "probability", "magnitude", "density")
    how: dict[str, Attribute | None] = {name: op.properties.get(name) for name in names}
    how["scales"] = program.floats(op, "scales")
    if any(isinstance(use.operation, spz.SparseHead) for use in op.result.uses):
        how["or_all"] = UnitAttr()
    how["part"] = exec.PartAttr(exec.Part.MLP if exact else exec.Part.PREDICTORS)
    units = shape_of(op.result)[1]
    program.slots[op.result] = program.buffer((1, 1 + units), op.result.name_hint)
    program.kernel(exec.Select, [scores, program.slots[op.result].value], how)


def sparse_mlp(program: ProgramBuilder, op: spz.SparseMlp) -> None:
    weights = program.storage(mlp_need(op))
    x = program.factor(_one_row(program, op), weights)
    listed = (op.selection, op.values, op.rest, op.coarse)
    given = [None if value is None else program.dense(value) for value in listed]
    parts = program.buffer(shape_of(op.result))
    names = ("gate_known", "act", "density", "active", "rest_density")
    how: dict[str, Attribute | None] = {name: op.properties.get(name) for name in names}
    how["weights"] = weights
    how["gated"] = None if op.gate is None else UnitAttr()
    # What is known is not computed, so neither is a bias added.
    if op.values is None:
        how["gate_bias"] = program.floats(op, "gate_bias")
    if op.values is None or op.gate_known is not None:
        how["up_bias"] = program.floats(op, "up_bias")
    program.insert(
        exec.SparseMlp.build(
            operands=[x, *given, parts.value],
            properties={k: v for k, v in how.items() if v is not None},
        )
    )
    out = program.result(op.result)
    program.kernel(exec.Sum, [parts.value, out.value], {"bias": program.floats(op, "down_bias")})


def sparse_linear(program: ProgramBuilder, op: spz.SparseLinear) -> None:
    x, chosen = _one_row(program, op), program.dense(op.selection)
    out, bias = program.result(op.result), program.floats(op, "bias")
    inputs = op.side.data is spz.Side.INPUTS
    parts = program.buffer(out.shape) if inputs else out
    weight = program.matrix(op)
    program.kernel(
        exec.SparseLinear,
        [program.factor(x, weight), chosen, parts.value],
        {
            "weight": weight,
            "bias": None if inputs else bias,
            "side": op.side,
            "blocks": IntegerAttr(shape_of(op.selection)[1], i64),
            "density": op.density,
            "part": exec.PartAttr(part_of(op)),
        },
    )
    if inputs:
        program.kernel(exec.Sum, [parts.value, out.value], {"bias": bias})


def sketch(program: ProgramBuilder, op: spz.Sketch) -> None:
    rows = program.storage((exec.Layout.SKETCH, symbols(op, "rows", "bias")))
    program.kernel(
        exec.Sketch, [_one_row(program, op), program.result(op.result).value], {"rows": rows}
    )


def refine(program: ProgramBuilder, op: spz.Refine) -> None:
    scores, chosen, x = map(program.dense, (op.scores, op.selection, op.x))
    program.kernel(
        exec.Refine,
        [scores, chosen, x, program.result(op.result).value],
        {
            "rows": program.storage((exec.Layout.REFINEMENT, symbols(op, "rows"))),
            "offset": op.offset,
            "density": op.density,
        },
    )


def sparse_head(program: ProgramBuilder, op: spz.SparseHead) -> None:
    weight = program.matrix(op)
    x, chosen = program.factor(_one_row(program, op), weight), program.dense(op.selection)
    program.kernel(
        exec.SparseHead,
        [x, chosen, program.dense(op.scores), program.result(op.result).value],
        {
            "weight": weight,
            "bias": program.floats(op, "bias"),
            "offset": op.offset,
            "density": op.density,
        },
    )


LOWERINGS: dict[type[Operation], Lowering] = {
    spz.Predict: predict,
    spz.Neurons: neurons,
    spz.Select: select,
    spz.SparseMlp: sparse_mlp,
    spz.SparseLinear: sparse_linear,
    spz.Sketch: sketch,
    spz.Refine: refine,
    spz.SparseHead: sparse_head,
}
