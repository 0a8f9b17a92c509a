"""The blocks of a model that can be made sparse, in order: its MLPs, its attentions, its head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

from sparsecomp.dialects import aten, spz

from .base import module_path
from .build import shape_of

EXACT_ZEROS = frozenset({spz.Act.RELU, spz.Act.RELU2})
"""Activations that give exact zeros, so that a neuron is active or not."""

PER_HEAD = spz.RmsNorm | spz.LayerNorm | spz.Rope | aten.Elementwise | aten.Reshape


@dataclass(frozen=True)
class MlpBlock:
    """An MLP; its units are neurons."""

    module: str
    op: spz.Mlp | spz.GatedMlp
    units: int

    @property
    def input(self) -> SSAValue:
        """(T, in): what a predictor of its neurons reads."""
        return self.op.x

    @property
    def exact_zeros(self) -> bool:
        return self.op.act.data in EXACT_ZEROS


@dataclass(frozen=True)
class AttentionBlock:
    """An attention with a query projection of its own; its units are heads.

    `output` is the linear that reads the heads' result, when nothing lies between; `key` and
    `value` those of keys and values, when nothing else reads these and they share the query's
    input.
    """

    module: str
    op: spz.Attention | spz.CachedAttention
    units: int
    query: spz.Linear
    key: spz.Linear | None
    value: spz.Linear | None
    output: spz.Linear | None

    @property
    def input(self) -> SSAValue:
        """(T, in): what a predictor of its heads reads."""
        return self.query.x


@dataclass(frozen=True)
class HeadBlock:
    """The head; its units are the rows of the vocabulary."""

    module: str
    op: spz.LmHead
    units: int

    @property
    def input(self) -> SSAValue:
        """(T, hidden): what a sketch of it reads."""
        return self.op.x


Block = MlpBlock | AttentionBlock | HeadBlock


def blocks(func: FuncOp) -> list[Block]:
    """The blocks of a function; those that share their module's name with another have no name to
    be chosen by, and are left out."""
    module = func.get_toplevel_object()
    assert isinstance(module, ModuleOp)
    found = list(_blocks(func, weight_shapes(module)))
    names = Counter(block.module for block in found)
    return [block for block in found if block.module and names[block.module] == 1]


def source(blocks: Sequence[Block], block: Block, lookahead: int) -> Block:
    """The block whose input predicts `block`: of its kind, `lookahead` earlier, or the first."""
    alike = [other for other in blocks if type(other) is type(block)]
    return alike[max(alike.index(block) - lookahead, 0)]


def _blocks(func: FuncOp, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Block]:
    for op in func.body.block.ops:
        match op:
            case spz.Mlp() | spz.GatedMlp():
                if len(shape_of(op.x)) == 2:
                    yield MlpBlock(module_path(op), op, shapes[op.up.string_value()][0])
            case spz.Attention() | spz.CachedAttention():
                query = linear_behind(op.q)
                if query is not None:
                    heads = shape_of(op.q)[1]
                    key, value = (_beside(query, linear_behind(value)) for value in (op.k, op.v))
                    output = output_of(op)
                    yield AttentionBlock(module_path(op), op, heads, query, key, value, output)
            case spz.LmHead() if len(shape_of(op.x)) == 2:
                yield HeadBlock(module_path(op), op, shapes[op.weight.string_value()][0])


def weight_shapes(module: ModuleOp) -> dict[str, tuple[int, ...]]:
    """The shapes of a module's weights and derived weights, by name."""
    return {
        op.sym_name.data: op.type.get_shape()
        for op in module.ops
        if isinstance(op, aten.Weight | aten.Derived)
    }


def linear_behind(value: SSAValue) -> spz.Linear | None:
    """The linear whose result, head by head, becomes the queries, keys or values of an attention
    and nothing else."""
    while True:
        if len(list(value.uses)) != 1:
            return None
        owner = value.owner
        if isinstance(owner, spz.Linear):
            return owner
        if not isinstance(owner, PER_HEAD):
            return None
        same = [o for o in owner.operands if _size(o) == _size(value)]
        if len(same) != 1:
            return None
        value = same[0]


def _beside(query: spz.Linear, linear: spz.Linear | None) -> spz.Linear | None:
    """The linear, if it reads what the queries are made of."""
    return linear if linear is not None and linear.x is query.x else None


def output_of(op: spz.Attention | spz.CachedAttention) -> spz.Linear | None:
    """The linear that reads the heads side by side."""
    value: SSAValue = op.result
    while True:
        users = [use.operation for use in value.uses]
        if len(users) != 1:
            return None
        (user,) = users
        if isinstance(user, spz.Linear):
            return user
        if not isinstance(user, aten.Reshape):
            return None
        value = user.results[0]


def _size(value: SSAValue) -> int:
    """Elements of a row."""
    size = 1
    for n in shape_of(value)[1:]:
        size *= n
    return size
