"""shard: one rank's part of the model. Neurons, heads and rows of the vocabulary are shared out.

The first matrices of a block keep the rows of the rank's units, the last one their columns, so a
block gives a part of a sum, which `spz.all_reduce` completes (Megatron-LM, arXiv 1909.08053,
section 3). A selection is made by each rank among its own units: no rank needs the scores of
another (DA-TOP-k of HiRE, arXiv 2402.09360). What is probable among all rows of a vocabulary is so
among a rank's own, and the best of all are among the best of each: by the same scores the ranks
together choose a superset of what one device would. Heads are shared out in groups that have keys
and values in common. Shares may differ by a group, and a rank that has none adds nothing.

What cannot be proved to fall into units stays whole on every rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.dialects.builtin import FunctionType, IntegerAttr, ModuleOp, SymbolRefAttr, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext, functions, module_path
from .blocks import weight_shapes
from .build import from_module, reshape, shape_of, slice_dim, with_shape
from .fuse_sparse_attention import treats_heads_alone
from .outline import Outliner
from .schedule_workers import FLOATS_PER_LINE, NEURONS_PER_BLOCK

MlpOp = spz.Mlp | spz.GatedMlp | spz.SparseMlp
Projection = spz.Linear | spz.SparseLinear
HeadOp = spz.LmHead | spz.SparseHead


@dataclass(frozen=True)
class Part:
    """The units `first` to `end` of `units`."""

    first: int
    end: int
    units: int

    @property
    def count(self) -> int:
        return self.end - self.first

    def of(self, size: int) -> tuple[int, int]:
        """The same part of something that falls into so many elements."""
        each = size // self.units
        return self.first * each, self.end * each


def part(units: int, rank: int, ranks: int, grain: int = 1) -> Part:
    """The share of a rank, at multiples of `grain` units; the first ranks have the larger ones."""
    grains = math.ceil(units / grain)
    first, end = (min(math.ceil(grains * r / ranks) * grain, units) for r in (rank, rank + 1))
    return Part(first, end, units)


class _Rank:
    """One rank's part of a module."""

    def __init__(self, module: ModuleOp, ctx: PassContext):
        self.module = module
        self.ctx = ctx
        self.outliner = Outliner(module)
        self.shapes = weight_shapes(module)

    def part(self, units: int, grain: int = 1) -> Part:
        return part(units, self.ctx.rank, self.ctx.ranks, grain)

    # ---- weights and values of some units ----

    def weight(self, symbol: SymbolRefAttr, part: Part, dim: int = 0) -> SymbolRefAttr:
        """A weight cut along a dimension."""
        name = symbol.string_value()
        if part.count == part.units:
            return symbol
        block = Block()
        declared = next(
            op
            for op in self.module.ops
            if isinstance(op, aten.Weight | aten.Derived) and op.sym_name.data == name
        )
        get = aten.Get(name, declared.type)
        kept = slice_dim(get.result, dim, *part.of(declared.type.get_shape()[dim]))
        block.add_ops([get, kept])
        new, type = self.outliner.add(f"{name}.r{self.ctx.rank}", block, kept.results[0])
        self.shapes[new] = type.get_shape()
        return SymbolRefAttr(new)

    def weights(self, op: Operation, part: Part, *names: str, dim: int = 0) -> None:
        """The weights of these names that an op reads, cut along a dimension."""
        for name in names:
            symbol = op.properties.get(name)
            if isinstance(symbol, SymbolRefAttr):
                op.properties[name] = self.weight(symbol, part, dim)

    def value(self, value: SSAValue, part: Part) -> None:
        """Units are the outermost of a row, so the first size that is not 1 counts them."""
        shape = list(shape_of(value))
        dim = _first_dim(shape)
        first, end = part.of(shape[dim])
        shape[dim] = end - first
        Rewriter.replace_value_with_new_type(value, with_shape(value, shape))

    def sum(self, op: Operation, result: SSAValue, part: Part) -> None:
        """What an op gives of the rank's units is a part of the sum over all ranks."""
        builder = Builder(InsertPoint.after(op))
        reduced = spz.AllReduce.create(
            operands=[result] if part.count else [],
            attributes=from_module(module_path(op)),
            result_types=[result.type],
        )
        builder.insert(reduced)
        reduced.result.name_hint = result.name_hint
        result.replace_uses_with_if(reduced.result, lambda use: use.operation is not reduced)

    def bias(self, op: Operation, name: str) -> None:
        """What is added to a sum is added by the first rank alone."""
        if self.ctx.rank:
            op.properties.pop(name, None)

    # ---- what chooses units ----

    def selection(self, select: spz.Select, part: Part) -> None:
        """Scores for the rank's units, and the selection among them."""
        scorer = select.scores.owner
        if isinstance(scorer, spz.Predict):
            self.weights(scorer, part, "up", "bias")
        elif isinstance(scorer, spz.Neurons):
            self.weights(scorer, part, "gate", "up", "gate_bias", "up_bias")
        self.weights(select, part, "scales")
        self.value(select.scores, part)
        self.value(select.result, part)

    # ---- blocks ----

    def mlp(self, op: MlpOp, grain: int) -> None:
        select = None if op.selection is None else op.selection.owner
        if len(shape_of(op.x)) != 2 or not _chooses_for(select, [op]) or _knows_others(op):
            return
        neurons = self.part(self.shapes[op.up.string_value()][0], grain)
        if neurons.count:
            if isinstance(select, spz.Select):
                self.selection(select, neurons)
            self.weights(op, neurons, "down", dim=1)
            self.weights(op, neurons, "gate", "up", "gate_bias", "up_bias")
            self.bias(op, "down_bias")
        self.sum(op, op.result, neurons)

    def attention(self, op: spz.CachedAttention) -> None:
        heads = _heads(op)
        if heads is None:
            return
        groups = self.part(shape_of(op.k)[1], heads.grain)
        self.sum(heads.output, heads.output.results[0], groups)
        if not groups.count:
            # No results are read any more; what made them goes with them.
            for dead in (heads.output, *reversed(heads.after), op):
                dead.detach()
                dead.erase()
            return
        if isinstance(heads.select, spz.Select):
            self.selection(heads.select, groups)
        for before in heads.before:
            if isinstance(before, Projection):
                self.weights(before, groups, "weight", "bias")
            self._cut(before, groups)
        self.weights(op, groups, "slopes", "sinks")
        for after in (op, *heads.after):
            self._cut(after, groups)
        self.weights(heads.output, groups, "weight", dim=1)
        self.bias(heads.output, "bias")

    def head(self, op: HeadOp) -> None:
        rows = _vocabulary(self.shapes, op)
        lines = rows >= FLOATS_PER_LINE * self.ctx.ranks
        grain = FLOATS_PER_LINE if lines else 1
        vocabulary = self.part(rows, grain)
        for before in _chosen_by(op):
            self.weights(before, vocabulary, "rows", "bias")
            if isinstance(before, spz.Select):
                self._among(before, vocabulary)
            self.value(before.results[0], vocabulary)
        self.weights(op, vocabulary, "weight", "bias")
        for scores in (op, *(_to_return(op) or ())):
            self._cut(scores, vocabulary)

    def _among(self, select: spz.Select, part: Part) -> None:
        """The best of the rank's units: all that are wanted may be there."""
        assert select.count is not None and select.group is not None
        select.count = IntegerAttr(min(select.count.value.data, part.count), i64)
        select.group = IntegerAttr(part.count, i64)

    def _cut(self, op: Operation, part: Part) -> None:
        """An op on whole rows becomes that op on some units."""
        if isinstance(op, aten.Elementwise):
            for index, operand in enumerate(op.operands):
                if isinstance(operand.owner, aten.Get):
                    op.operands[index] = self._constant(operand.owner, op, part)
        self.value(op.results[0], part)
        if isinstance(op, aten.Reshape):  # it names the shape that it gives
            new = reshape(op.operands[0], shape_of(op.results[0]), module_path(op))
            new.results[0].name_hint = op.results[0].name_hint
            Rewriter.replace_op(op, new)

    def _constant(self, get: aten.Get, reader: Operation, part: Part) -> SSAValue:
        """A weight that is combined with whole rows, for some units."""
        shape = shape_of(reader.results[0])
        dim = _first_dim(shape) - len(shape) + len(shape_of(get.result))
        if dim < 0 or shape_of(get.result)[dim] == 1:
            return get.result  # the same for every unit
        name = self.weight(get.weight, part, dim).string_value()
        new = Builder(InsertPoint.before(reader)).insert(
            aten.Get(name, with_shape(get.result, self.shapes[name]))
        )
        return new.result


# ---- what falls into units ----


@dataclass(frozen=True)
class _Heads:
    """An attention that falls into groups of heads: the ops on heads `before` it, from their
    projections on, and `after` it, to the `output` projection; what selects heads; and how many
    groups must stay together."""

    before: Sequence[Operation]
    after: Sequence[Operation]
    output: Projection
    select: Operation | Block | None
    grain: int


def _heads(op: spz.CachedAttention) -> _Heads | None:
    """None where something mixes groups of heads, or reads them in another way."""
    groups = shape_of(op.k)[1]
    before: dict[Operation, None] = {}
    if not all(_before(value, groups, before) for value in (op.q, op.k, op.v)):
        return None
    after = list(_after(op, groups))
    last = after[-1] if after else op
    output = _only_reader(last.results[0])
    if not isinstance(output, Projection) or len(shape_of(output.x)) != 2:
        return None
    region = {*before, op, *after, output}
    results = (r for o in region - {output} for r in o.results)
    if any(use.operation not in region for result in results for use in result.uses):
        return None
    select = None if op.selection is None else op.selection.owner
    sparse = [o for o in region if isinstance(o, spz.SparseLinear)]
    if any(o.selection.owner is not select for o in sparse) or not _chooses_for(
        select, [op, *sparse]
    ):
        return None
    kept = getattr(select, "group", None)
    each = shape_of(op.q)[1] // groups
    grain = 1 if kept is None else math.lcm(kept.value.data, each) // each
    block = op.parent_block()
    assert block is not None
    return _Heads([o for o in block.ops if o in before], after, output, select, grain)


def _before(value: SSAValue, groups: int, found: dict[Operation, None]) -> bool:
    """Whether a value of heads comes from projections, its groups apart all the way."""
    op = value.owner
    if op in found:
        return True
    if isinstance(op, Projection):
        outputs = isinstance(op, spz.Linear) or op.side.data is spz.Side.OUTPUTS
        found[op] = None
        return outputs and len(shape_of(op.x)) == 2
    if not isinstance(op, Operation) or not _keeps_units(op, groups):
        return False
    found[op] = None
    return all(_before(o, groups, found) for o in _rows(op))


def _after(op: Operation, groups: int) -> Iterator[Operation]:
    """The moves of whole groups after an attention."""
    user = _only_reader(op.results[0])
    if isinstance(user, aten.Reshape | spz.Last) and _falls_into(user.results[0], groups):
        yield user
        yield from _after(user, groups)


def _to_return(op: Operation) -> list[Operation] | None:
    """The ops from the vocabulary's scores to the result; None where they do not stand alone."""
    found: list[Operation] = []
    (value,) = op.results
    while not isinstance(user := _only_reader(value), ReturnOp):
        if not isinstance(user, aten.Elementwise) or not _keeps_units(user, shape_of(value)[1]):
            return None
        if len(shape_of(user.results[0])) != 2 or len(_rows(user)) != 1:
            return None
        found.append(user)
        (value,) = user.results
    return found


def _keeps_units(op: Operation, units: int) -> bool:
    """Whether each unit of an op's result depends on that unit of its operands alone."""
    falls = all(_falls_into(value, units) for value in (*_rows(op), *op.results))
    return falls and all(treats_heads_alone(op, value, units) for value in _rows(op))


def _falls_into(value: SSAValue, units: int) -> bool:
    """Whether the outermost dimension of a row counts units, or several for each."""
    shape = shape_of(value)
    dim = _first_dim(shape)
    return dim < len(shape) and shape[dim] % units == 0


def _first_dim(shape: Sequence[int]) -> int:
    """The first dimension behind the tokens that is not of size 1."""
    return next((d for d, n in enumerate(shape) if d and n != 1), len(shape))


def _rows(op: Operation) -> list[SSAValue]:
    """The operands of an op that are rows of what it works on: not weights, not positions."""
    operands = op.operands[:1] if isinstance(op, spz.SpzOp) else op.operands
    return [o for o in operands if not isinstance(o.owner, aten.Get)]


def _only_reader(value: SSAValue) -> Operation | None:
    uses = list(value.uses)
    return uses[0].operation if len(uses) == 1 else None


def _chooses_for(select: Operation | Block | None, readers: Sequence[Operation]) -> bool:
    """Whether a selection, if any, is made from scores of its own and for these ops alone."""
    if select is None:
        return True
    if not isinstance(select, spz.Select):
        return False
    scorer = select.scores.owner
    return (
        isinstance(scorer, spz.Predict | spz.Neurons)
        and all(use.operation in (*readers, select) for use in select.scores.uses)
        and all(use.operation in readers for use in select.result.uses)
    )


def _knows_others(op: MlpOp) -> bool:
    """Whether an MLP knows values that its selection was not made from."""
    if not isinstance(op, spz.SparseMlp) or op.values is None:
        return False
    select = op.selection.owner
    return not isinstance(select, spz.Select) or select.scores is not op.values


def _vocabulary(shapes: dict[str, tuple[int, ...]], op: HeadOp) -> int:
    return shapes[op.weight.string_value()][0]


def _chosen_by(op: HeadOp) -> list[Operation]:
    """What scores a head's vocabulary and chooses from it."""
    found: list[Operation] = []
    todo: list[Operation] = [op]
    while todo:
        for owner in (operand.owner for operand in todo.pop().operands):
            if isinstance(owner, spz.Sketch | spz.Refine | spz.Select) and owner not in found:
                found.append(owner)
                todo.append(owner)
    return found


def _grains(module: ModuleOp) -> dict[str, int]:
    """Neurons that must stay together, by the matrix of their columns: those of which a selection
    keeps the best few. @prefill cuts as @decode does, for both read the same weights."""
    found: dict[str, int] = {}
    for func in functions(module):
        for op in func.body.block.ops:
            if isinstance(op, MlpOp) and op.selection is not None:
                select = op.selection.owner
                if isinstance(select, spz.Select) and select.group is not None:
                    name = op.down.string_value()
                    found[name] = math.lcm(found.get(name, 1), select.group.value.data)
    return found


def _split_heads(module: ModuleOp, ranks: int, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether every function scores the vocabulary row by row, and there are rows for each rank."""
    for func in functions(module):
        heads = [op for op in func.body.block.ops if isinstance(op, HeadOp)]
        if len(heads) != 1 or _vocabulary(shapes, heads[0]) < ranks:
            return False
        if len(shape_of(heads[0].x)) != 2 or _to_return(heads[0]) is None:
            return False
    return True


class Shard(Pass):
    name = "shard"
    help = "keep one rank's neurons, heads and vocabulary, and add up what all ranks give"
    requires = (Form.ROWS, Form.DECODE)
    ensures = (Form.ROWS, Form.DECODE)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        if ctx.ranks == 1:
            return
        rank = _Rank(module, ctx)
        grains = _grains(module)
        split_heads = _split_heads(module, ctx.ranks, rank.shapes)
        for func in functions(module):
            for op in list(func.body.block.ops):
                match op:
                    case spz.Mlp() | spz.GatedMlp() | spz.SparseMlp():
                        rank.mlp(op, grains.get(op.down.string_value(), NEURONS_PER_BLOCK))
                    case spz.CachedAttention():
                        rank.attention(op)
                    case spz.LmHead() | spz.SparseHead() if split_heads:
                        rank.head(op)
            _update_type(func)
        region_dce(module.body)
        _number_slots(module)


def _number_slots(module: ModuleOp) -> None:
    """The slots of the attentions that are left, from 0."""
    attentions = [op for op in module.walk() if isinstance(op, spz.CachedAttention)]
    kept = sorted({op.slot.value.data for op in attentions})
    for op in attentions:
        op.properties["slot"] = IntegerAttr(kept.index(op.slot.value.data), i64)


def _update_type(func: FuncOp) -> None:
    returned = func.body.block.last_op
    assert isinstance(returned, ReturnOp)
    func.properties["function_type"] = FunctionType.from_lists(
        list(func.function_type.inputs), [o.type for o in returned.operands]
    )
