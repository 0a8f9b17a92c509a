"""MLPs spelled out, so that what their neurons give is a value of the graph."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import aten, spz
from sparsecomp.passes.base import function
from sparsecomp.passes.blocks import AttentionBlock, HeadBlock, MlpBlock, blocks
from sparsecomp.passes.build import from_module


@dataclass(frozen=True)
class OpenMlp:
    """The values of an MLP: `input` (T, in), `gate` (T, neurons) after the activation, `neurons`
    (T, neurons), and the linear that adds them up.
    """

    module: str
    units: int
    exact_zeros: bool
    input: SSAValue
    gate: SSAValue | None
    neurons: SSAValue
    down: spz.Linear


@dataclass(frozen=True)
class Opened:
    """A copy of a module that computes the same, and its blocks."""

    module: ModuleOp
    mlps: tuple[OpenMlp, ...]
    attentions: tuple[AttentionBlock, ...]
    heads: tuple[HeadBlock, ...]


def open_mlps(module: ModuleOp) -> Opened:
    """Of a module with @forward, after raise-head."""
    copy = module.clone()
    forward = function(copy, "forward")
    mlps = tuple(_open(block) for block in blocks(forward) if isinstance(block, MlpBlock))
    # Found afterwards: the linear of an attention may read what was an MLP's result.
    attentions = tuple(b for b in blocks(forward) if isinstance(b, AttentionBlock))
    heads = tuple(b for b in blocks(forward) if isinstance(b, HeadBlock))
    return Opened(copy, mlps, attentions, heads)


def _open(block: MlpBlock) -> OpenMlp:
    op, x = block.op, block.op.x
    hidden = TensorType(_element(op), [DYNAMIC_INDEX, block.units])
    before = Builder(InsertPoint.before(op))
    attributes = from_module(block.module)

    def properties(**given: Attribute | None) -> dict[str, Attribute]:
        return {name: value for name, value in given.items() if value is not None}

    def linear(x: SSAValue, type: Attribute, **given: Attribute | None) -> spz.Linear:
        return before.insert(
            spz.Linear.create(
                operands=[x],
                properties=properties(**given),
                attributes=attributes,
                result_types=[type],
            )
        )

    def activated(**given: Attribute | None) -> SSAValue:
        neurons = spz.Neurons.create(
            operands=[x],
            properties=properties(act=op.act, **given),
            attributes=attributes,
            result_types=[hidden],
        )
        return before.insert(neurons).result

    gate: SSAValue | None = None
    neurons: SSAValue
    if isinstance(op, spz.GatedMlp):
        gate = activated(gate=op.gate, gate_bias=op.gate_bias)
        up = linear(x, hidden, weight=op.up, bias=op.up_bias).result
        product = aten.Mul.call({"self": gate, "other": up}, [hidden], block.module)
        neurons = before.insert(product).results[0]
    else:
        neurons = activated(up=op.up, up_bias=op.up_bias)
    down = linear(neurons, op.result.type, weight=op.down, bias=op.down_bias)
    op.result.replace_all_uses_with(down.result)
    op.detach()
    op.erase()
    return OpenMlp(block.module, block.units, block.exact_zeros, x, gate, neurons, down)


def _element(op: spz.Mlp | spz.GatedMlp) -> Attribute:
    assert isinstance(op.x.type, TensorType)
    return op.x.type.element_type
