"""raise-rope: rotary embeddings, found by what they do to a head and not by their formula.

A candidate is a piece of the graph with one head vector in and one out that is linear in it, with
coefficients read from position tables. Run on unit vectors it shows its matrix; when element i of
the result is `cos_i x_i + sin_i x_partner(i)`, it is a rotary embedding, whatever slices, signs and
concatenations it was made of. Half-split, interleaved and partial forms all fall out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import networkx
import torch
from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    IntegerAttr,
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    f32,
    i64,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, PatternRewriteWalker, RewritePattern
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext, function, module_path
from .build import from_module, shape_of, slice_dim
from .kinds import Kind, classify
from .outline import Outliner, backward_slice

NEAR = 8
"""Positions from 0 on at which coefficients are compared with table columns; beyond, one in each
power of two: low frequencies differ from each other, and from 0, far away only."""


# ---- candidates ----


def _is_linear(op: Operation, kinds: dict[SSAValue, Kind]) -> bool:
    """Whether the result is linear in the token operands, element by element or by moving them."""
    tokens = [o for o in op.operands if kinds[o] is Kind.TOKEN]
    match op:
        case aten.Mul():
            return len(tokens) == 1
        case aten.Add() | aten.Sub():
            return len(tokens) == 2
        case aten.Neg() | aten.MulScalar():
            return True
        case aten.Slice() | aten.Cat() | aten.Reshape() | aten.Permute():
            return len(tokens) == len(op.operands)
    return False


def _entries(exit: SSAValue, kinds: dict[SSAValue, Kind]) -> list[SSAValue]:
    """The values of the same shape that all of `exit` comes through linearly, nearest first."""
    graph = networkx.DiGraph()
    stack, seen, sink = [exit], {exit}, "sink"
    while stack:
        value = stack.pop()
        op = value.owner
        if not isinstance(op, Operation) or not _is_linear(op, kinds):
            graph.add_edge(value, sink)
            continue
        for operand in op.operands:
            if kinds[operand] is Kind.TOKEN:
                graph.add_edge(value, operand)
                if operand not in seen:
                    seen.add(operand)
                    stack.append(operand)
    dominators = networkx.immediate_dominators(graph, exit)
    entries: list[SSAValue] = []
    value = dominators.get(sink)
    while value is not None and value is not exit:
        if shape_of(value) == shape_of(exit):
            entries.append(value)
        value = dominators.get(value)
    return entries[::-1]


# ---- what a candidate does ----


@dataclass(frozen=True)
class Columns:
    """A coefficient table as runs of columns of the tables that the model computes."""

    runs: tuple[tuple[str, int, int, float], ...]
    """(table, first column, number of columns, sign)"""


@dataclass(frozen=True)
class Rotation:
    pairing: spz.Pairing
    cos: Columns
    sin: Columns


def _partners(size: int, pairing: spz.Pairing) -> torch.Tensor:
    index = torch.arange(size)
    return (index + size // 2) % size if pairing is spz.Pairing.HALF else index ^ 1


class Prober:
    """Runs candidates on unit vectors; equal candidates (one a layer) are run once."""

    def __init__(self, module: ModuleOp, kinds: dict[SSAValue, Kind], ctx: PassContext):
        self.kinds = kinds
        self.ctx = ctx
        self._derived = {op.sym_name.data: op for op in module.ops if isinstance(op, aten.Derived)}
        self._tables: dict[str, torch.Tensor] = {}
        last = ctx.positions - 1
        far = (NEAR << i for i in range(last.bit_length()))
        sampled = sorted({p for p in (*range(NEAR), *far, last) if 0 <= p <= last})
        self._positions = torch.tensor(sampled)

    def first_rotation(
        self, entries: Sequence[SSAValue], exit: SSAValue
    ) -> tuple[SSAValue, Rotation] | None:
        for entry in entries:
            if (rotation := self._rotation(entry, exit)) is not None:
                return entry, rotation
        return None

    def _rotation(self, entry: SSAValue, exit: SSAValue) -> Rotation | None:
        shape = shape_of(exit)
        if shape[2] % 2:
            return None
        lookups = [op for op in backward_slice(exit, {entry: entry}) if isinstance(op, spz.Embed)]
        if not lookups:
            return None
        matrix = self._matrix(entry, exit, lookups)  # (position, in, out), one for all heads
        if matrix is None:
            return None
        size = shape[2]
        own = matrix.diagonal(dim1=1, dim2=2)
        for pairing in spz.Pairing:
            partners = _partners(size, pairing)
            other = matrix[:, partners, torch.arange(size)]
            rest = matrix.clone()
            rest[:, torch.arange(size), torch.arange(size)] = 0
            rest[:, partners, torch.arange(size)] = 0
            if rest.any() or not (own.any() and other.any()):
                continue
            names = [op.table.string_value() for op in lookups]
            cos, sin = self._columns(own, names), self._columns(other, names)
            if cos is not None and sin is not None:
                return Rotation(pairing, cos, sin)
        return None

    def _matrix(
        self, entry: SSAValue, exit: SSAValue, lookups: Sequence[spz.Embed]
    ) -> torch.Tensor | None:
        _, heads, size = shape_of(entry)
        # One row for each (position, unit vector): rows do not see each other.
        samples = len(self._positions)
        units = torch.eye(size).repeat(samples, 1)[:, None, :].expand(-1, heads, -1)
        bindings = {entry: units.contiguous()}
        for op in lookups:
            table = self.table(op.table.string_value())
            bindings[op.result] = table.repeat_interleave(size, dim=0)
        (out,) = self.ctx.evaluate(
            [exit], bindings, length=samples * size, weights=self.ctx.weights
        )
        out = out.reshape(samples, size, heads, size)
        if not torch.equal(out, out[:, :, :1].expand_as(out)):
            return None
        return out[:, :, 0]

    def table(self, name: str) -> torch.Tensor:
        """The rows of a position table at the sampled positions."""
        if name not in self._tables:
            result = self._derived[name].body.block.last_op
            assert isinstance(result, aten.Yield)
            (self._tables[name],) = self.ctx.evaluate(
                [result.value],
                {},
                length=len(self._positions),
                weights=self.ctx.weights,
                positions=self._positions,
            )
        return self._tables[name]

    def _columns(self, wanted: torch.Tensor, names: Sequence[str]) -> Columns | None:
        """Express each column of (position, R) as a column of a table, up to its sign."""
        runs: list[tuple[str, int, int, float]] = []
        for i in range(wanted.shape[1]):
            run = self._column(wanted[:, i], names, runs)
            if run is None:
                return None
            if runs and runs[-1][0] == run[0] and runs[-1][3] == run[3]:
                name, first, count, sign = runs[-1]
                if run[1] == first + count:
                    runs[-1] = (name, first, count + 1, sign)
                    continue
            runs.append(run)
        return Columns(tuple(runs))

    def _column(
        self,
        wanted: torch.Tensor,
        names: Sequence[str],
        runs: list[tuple[str, int, int, float]],
    ) -> tuple[str, int, int, float] | None:
        found: list[tuple[str, int, int, float]] = []
        for name in names:
            table = self.table(name)
            for sign in (1.0, -1.0):
                same = (table * sign == wanted[:, None]).all(dim=0).nonzero().flatten().tolist()
                found += [(name, column, 1, sign) for column in same]
        # The column after the last one makes the longer run.
        following = [
            f for f in found if runs and f[0] == runs[-1][0] and f[1] == runs[-1][1] + runs[-1][2]
        ]
        return next(iter(following or found), None)


# ---- the pass ----


class WholeHead(RewritePattern):
    """`cat(rope(x[:R]), x[R:])` is a partial rotary embedding of x."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Cat) or len(op.operands) != 2:
            return
        rank = len(shape_of(op.results[0]))
        rope, rest = (o.owner for o in op.operands)
        if not isinstance(rope, spz.Rope) or not isinstance(rest, aten.Slice):
            return
        first = rope.x.owner
        if (
            isinstance(first, aten.Slice)
            and first.operands[0] is rest.operands[0]
            and not first.arg("start")
            and all(
                d % rank == rank - 1 for d in (op.arg("dim"), first.arg("dim"), rest.arg("dim"))
            )
            and rest.arg("start") == shape_of(rope.x)[-1]
            and shape_of(first.operands[0]) == shape_of(op.results[0])
        ):
            new = spz.Rope.create(
                operands=[first.operands[0], rope.positions],
                properties=dict(rope.properties),
                attributes=dict(rope.attributes),
                result_types=[op.results[0].type],
            )
            rewriter.replace(op, new)


class RaiseRope(Pass):
    name = "raise-rope"
    help = "rotary embeddings, found by what they do to a head, become spz.rope"
    requires = (Form.ROWS, Form.FULL_SEQUENCE)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        func = function(module, "forward")
        kinds = classify(func)
        prober = Prober(module, kinds, ctx)
        outliner = Outliner(module)
        positions = func.body.block.args[1]
        for op in _sums(func):
            value = op.results[0]
            if kinds.get(value) is not Kind.TOKEN:
                continue
            found = prober.first_rotation(_entries(value, kinds), value)
            if found is None:
                continue
            entry, rotation = found
            rope = spz.Rope.create(
                operands=[entry, positions],
                properties={
                    "cos": _table(rotation.cos, outliner, prober),
                    "sin": _table(rotation.sin, outliner, prober),
                    "rotary": IntegerAttr(shape_of(entry)[2], i64),
                    "pairing": spz.PairingAttr(rotation.pairing),
                },
                attributes=from_module(module_path(op)),
                result_types=[value.type],
            )
            Builder(InsertPoint.before(op)).insert(rope)
            rope.result.name_hint = value.name_hint
            kinds[rope.result] = Kind.TOKEN
            value.replace_all_uses_with(rope.result)
        PatternRewriteWalker(WholeHead()).rewrite_module(module)
        region_dce(module.body)


def _sums(func: FuncOp) -> Iterator[Operation]:
    """The ops that may end a rotary embedding: a sum of two products, or a join of two halves."""
    return iter(
        [
            op
            for op in func.body.block.ops
            if isinstance(op, aten.Add | aten.Sub | aten.Cat | aten.Reshape)
            and len(shape_of(op.results[0])) == 3
        ]
    )


def _table(columns: Columns, outliner: Outliner, prober: Prober) -> SymbolRefAttr:
    """The table of these columns: one that is there already, or a derived one."""
    (name, first, count, sign), *more = columns.runs
    width = prober.table(name).shape[1]
    if not more and first == 0 and count == width and sign == 1:
        return SymbolRefAttr(name)
    block = Block()
    parts: list[SSAValue] = []
    gets: dict[str, aten.Get] = {}
    for name, first, count, sign in columns.runs:
        if name not in gets:
            type = TensorType(f32, [DYNAMIC_INDEX, prober.table(name).shape[1]])
            gets[name] = aten.Get(name, type)
            block.add_op(gets[name])
        part = slice_dim(gets[name].result, 1, first, first + count)
        block.add_op(part)
        if sign < 0:
            part = aten.Neg.call({"self": part.results[0]}, [part.results[0].type])
            block.add_op(part)
        parts.append(part.results[0])
    result = parts[0]
    if len(parts) > 1:
        total = sum(run[2] for run in columns.runs)
        cat = aten.Cat.call({"tensors": parts, "dim": 1}, [TensorType(f32, [DYNAMIC_INDEX, total])])
        block.add_op(cat)
        result = cat.results[0]
    symbol, _ = outliner.add(f"{columns.runs[0][0]}.signed", block, result)
    return SymbolRefAttr(symbol)
