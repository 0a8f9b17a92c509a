"""The kernels of what a dense model is made of: embeddings, norms, linears, MLPs, experts."""

from __future__ import annotations

from xdsl.dialects.builtin import UnitAttr
from xdsl.ir import Operation

from sparsecomp.dialects import exec, spz
from sparsecomp.passes.base import PassError
from sparsecomp.passes.build import shape_of
from sparsecomp.passes.choose_layouts import mlp_need, row_needs, symbols, table_need

from .part import part_of
from .program import Lowering, ProgramBuilder, index_of


def embed(program: ProgramBuilder, op: spz.Embed) -> None:
    index = index_of(op.ids) if op.ids.owner is program.func.body.block else None
    if index is None:
        raise PassError(op, "looks rows up by a computed index, which has no native kernel")
    program.kernel(
        exec.Embed,
        [program.result(op.result).value],
        {"table": program.storage(table_need(op)), "index": exec.IndexAttr(index)},
    )


def norm(program: ProgramBuilder, op: spz.RmsNorm | spz.LayerNorm) -> None:
    kind = exec.NormKind.RMS if isinstance(op, spz.RmsNorm) else exec.NormKind.LAYER
    x = program.dense(op.x)
    program.kernel(
        exec.Norm,
        [x, program.result(op.result).value],
        {
            "kind": exec.NormKindAttr(kind),
            "weight": program.floats(op, "weight"),
            "bias": program.floats(op, "bias"),
            "eps": op.eps,
        },
    )


def linear(program: ProgramBuilder, op: spz.Linear | spz.LmHead) -> None:
    # Several rows a token are read as so many more tokens.
    x = program.dense(op.x) if len(shape_of(op.x)) == 2 else program.packed(op.x)
    weight = program.matrix(op)
    program.kernel(
        exec.Linear,
        [program.factor(x, weight), program.result(op.result).value],
        {
            "weight": weight,
            "bias": program.floats(op, "bias"),
            "part": exec.PartAttr(part_of(op)),
        },
    )


def mlp(program: ProgramBuilder, op: spz.Mlp | spz.GatedMlp) -> None:
    if op.selection is not None:
        raise PassError(op, "has no native kernel")
    if len(shape_of(op.x)) != 2:
        raise PassError(op, "works on more than one row per token, which has no native kernel")
    if mlp_need(op) not in program.storages:
        _mlp_by_rows(program, op)
        return
    weights = program.storage(mlp_need(op))
    x = program.factor(program.dense(op.x), weights)
    parts = program.buffer(shape_of(op.result))
    program.kernel(
        exec.Mlp,
        [x, parts.value],
        {
            "weights": weights,
            "gate_bias": program.floats(op, "gate_bias"),
            "up_bias": program.floats(op, "up_bias"),
            "gated": UnitAttr() if isinstance(op, spz.GatedMlp) else None,
            "act": op.act,
        },
    )
    out = program.result(op.result)
    program.kernel(exec.Sum, [parts.value, out.value], {"bias": program.floats(op, "down_bias")})


def _mlp_by_rows(program: ProgramBuilder, op: spz.Mlp | spz.GatedMlp) -> None:
    """As the linears it is made of."""
    *inputs, down = (program.storage(need) for need in row_needs(op))
    x, part = program.dense(op.x), exec.PartAttr(exec.Part.MLP)
    biases = ("gate_bias", "up_bias") if isinstance(op, spz.GatedMlp) else ("up_bias",)
    shape = (shape_of(op.x)[0], exec.find_storage(program.func, down).dims[1])
    values = []
    for weight, bias in zip(inputs, biases, strict=True):
        value = program.buffer(shape)
        program.kernel(
            exec.Linear,
            [program.factor(x, weight), value.value],
            {"weight": weight, "bias": program.floats(op, bias), "part": part},
        )
        values.append(value.value)
    hidden = program.buffer(shape)
    program.kernel(exec.Activate, [*values, hidden.value], {"act": op.act})
    program.kernel(
        exec.Linear,
        [program.factor(hidden.value, down), program.result(op.result).value],
        {"weight": down, "bias": program.floats(op, "down_bias"), "part": part},
    )


def all_reduce(program: ProgramBuilder, op: spz.AllReduce) -> None:
    xs = [] if op.x is None else [program.packed(op.x)]
    program.kernel(exec.AllReduce, [*xs, program.result(op.result).value], {})


def experts(program: ProgramBuilder, op: spz.ExpertLinear) -> None:
    x, experts = program.dense(op.x), program.dense(op.experts)
    program.kernel(
        exec.ExpertLinear,
        [x, experts, program.result(op.result).value],
        {
            "weight": program.storage((exec.Layout.ROWS, symbols(op, "weight"))),
            "bias": program.floats(op, "bias"),
        },
    )


LOWERINGS: dict[type[Operation], Lowering] = {
    spz.Embed: embed,
    spz.RmsNorm: norm,
    spz.LayerNorm: norm,
    spz.Linear: linear,
    spz.LmHead: linear,
    spz.Mlp: mlp,
    spz.GatedMlp: mlp,
    spz.ExpertLinear: experts,
    spz.AllReduce: all_reduce,
}
