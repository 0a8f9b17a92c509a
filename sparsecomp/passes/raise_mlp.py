"""raise-mlp: linear, activation, (gate,) linear becomes one op, spz.mlp or spz.gated_mlp.

The activation is recognised by its values, so it may be one call or spelled out.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .activations import GRID, recognise
from .base import Form, Pass, PassContext, functions, module_path
from .build import from_module, shape_of


@dataclass(frozen=True)
class Inner:
    """What feeds the second linear: act(first), or act(gate) * up."""

    act: spz.Act
    first: spz.Linear
    up: spz.Linear | None


class Matcher:
    def __init__(self, ctx: PassContext):
        self.ctx = ctx
        self._acts: dict[str, spz.Act | None] = {}

    def inner(self, value: SSAValue) -> Inner | None:
        op = value.owner
        if isinstance(op, aten.Mul) and _one_use(value):
            for a, b in (tuple(op.operands), tuple(reversed(op.operands))):
                up = b.owner
                gate = self._activated(a)
                if (
                    isinstance(up, spz.Linear)
                    and _one_use(b)
                    and gate is not None
                    and gate[1] is not up
                    and gate[1].x is up.x
                    and shape_of(gate[1].result) == shape_of(b)
                ):
                    return Inner(gate[0], gate[1], up)
        plain = self._activated(value)
        if plain is not None and plain[0] is not spz.Act.IDENTITY:
            return Inner(*plain, None)
        return None

    def _activated(self, value: SSAValue) -> tuple[spz.Act, spz.Linear] | None:
        """(act, linear) of `act(linear(x))`, when nothing else reads what is in between."""
        region: list[Operation] = []
        sources: set[SSAValue] = set()
        stack = [value]
        while stack:
            current = stack.pop()
            op = current.owner
            if isinstance(op, aten.Elementwise) and shape_of(current) == shape_of(value):
                if op not in region:
                    region.append(op)
                    stack.extend(op.operands)
            else:
                sources.add(current)
        if len(sources) != 1:
            return None
        (source,) = sources
        linear = source.owner
        inside = {*region}
        if not isinstance(linear, spz.Linear) or any(
            use.operation not in inside for use in source.uses if source is not value
        ):
            return None
        interior = [r for op in region for r in op.results if r is not value]
        if any(use.operation not in inside for r in interior for use in r.uses):
            return None
        if not _one_use(value) and region:
            return None
        act = self._recognise(value, source)
        return None if act is None else (act, linear)

    def _recognise(self, value: SSAValue, source: SSAValue) -> spz.Act | None:
        if value is source:
            return spz.Act.IDENTITY
        # Rows do not matter to an elementwise function: run it on a column of sample points.
        shape = [1 if n != DYNAMIC_INDEX else len(GRID) for n in shape_of(source)]
        (values,) = self.ctx.evaluate(
            [value], {source: GRID.reshape(shape)}, length=len(GRID), weights=self.ctx.weights
        )
        return recognise(values.flatten())


def _one_use(value: SSAValue) -> bool:
    return len(list(value.uses)) == 1


class RaiseMlp(Pass):
    name = "raise-mlp"
    help = "linear, activation, (gate,) linear becomes spz.mlp or spz.gated_mlp"
    requires = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        matcher = Matcher(ctx)
        for func in functions(module):
            for op in list(func.body.block.ops):
                if isinstance(op, spz.Linear) and (inner := matcher.inner(op.x)) is not None:
                    _replace(op, inner)
        region_dce(module.body)


def _replace(down: spz.Linear, inner: Inner) -> None:
    properties: dict[str, Attribute | None] = {
        "down": down.weight,
        "down_bias": down.bias,
        "act": spz.ActAttr(inner.act),
    }
    if inner.up is None:
        properties |= {"up": inner.first.weight, "up_bias": inner.first.bias}
    else:
        properties |= {
            "gate": inner.first.weight,
            "gate_bias": inner.first.bias,
            "up": inner.up.weight,
            "up_bias": inner.up.bias,
        }
    mlp = (spz.Mlp if inner.up is None else spz.GatedMlp).create(
        operands=[inner.first.x],
        properties={k: v for k, v in properties.items() if v is not None},
        attributes=from_module(_parent(module_path(down))),
        result_types=[down.result.type],
    )
    Builder(InsertPoint.before(down)).insert(mlp)
    mlp.results[0].name_hint = down.result.name_hint
    down.result.replace_all_uses_with(mlp.results[0])


def _parent(path: str) -> str:
    """The module that holds the three linears: `model.layers.3.mlp` of its `down_proj`."""
    return path.rpartition(".")[0] or path
