"""to-rows: every value becomes rows of tokens, (T, ...), and is proved to treat each row alone.

In the exported graph the sequence dimension moves about: (1, s, 64), (1, 9, s, 64), (s, 64). Here
it comes first and the batch dimension goes. An op that reads other positions than its own is
refused by name; only attention, raised before, may.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import DYNAMIC_INDEX, FunctionType, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import aten, spz
from sparsecomp.dialects.schema import CallOp

from .base import Form, Pass, PassContext, PassError, functions, module_path
from .build import reshape, shape_of, sizes, tensor_type

ALONG_DIM = (
    aten.Softmax,
    aten.LogSoftmax,
    aten.Mean,
    aten.Sum,
    aten.Amax,
    aten.Amin,
    aten.Var,
    aten.VarDim,
    aten.LinalgVectorNorm,
    aten.Norm,
    aten.Cumsum,
    aten.Topk,
    aten.Sort,
    aten.Slice,
    aten.Cat,
    aten.RepeatInterleave,
    aten.IndexSelect,
    aten.Gather,
    aten.ScatterValue,
    aten.MaxDim,
    aten.Logsumexp,
)
"""Ops that work along the dimensions in their `dim` argument and leave the others alone."""

LAST_DIM = (aten.Linear, aten.Matmul, aten.Mm, aten.Addmm, aten.LayerNorm, aten.RmsNorm)
"""Ops that work along the last dimension(s) of their first token operand."""


class RowsOf:
    """Where the positions are in a shape, and what is left in rows."""

    def __init__(self, shape: Sequence[int], op: Operation):
        if list(shape).count(DYNAMIC_INDEX) != 1:
            raise PassError(op, f"has the shape {_show(shape)}, which is not one row per position")
        self.shape = tuple(shape)
        self.position = self.shape.index(DYNAMIC_INDEX)
        self.batch = self.position != 0 and self.shape[0] == 1
        # The original dimension of each rows dimension after the first.
        self.kept = [
            d for d in range(len(shape)) if d != self.position and not (d == 0 and self.batch)
        ]

    @property
    def rows(self) -> tuple[int, ...]:
        return (DYNAMIC_INDEX, *(self.shape[d] for d in self.kept))

    def dim(self, dim: int, op: Operation) -> int:
        """The rows dimension of an original one."""
        dim %= len(self.shape)
        if dim == self.position:
            raise PassError(op, "reads other positions than its own, outside attention")
        if dim not in self.kept:
            raise PassError(op, "works along the batch")
        return 1 + self.kept.index(dim)


def _show(shape: Sequence[int]) -> str:
    return "(" + ", ".join("s" if n == DYNAMIC_INDEX else str(n) for n in shape) + ")"


class Rewriter:
    """Builds the rows form of a function next to its old ops."""

    def __init__(self, func: FuncOp):
        self.func = func
        self.rows: dict[SSAValue, SSAValue] = {}
        """Token values in rows form; a value that is not here is a weight."""

    def run(self) -> None:
        block = self.func.body.block
        old = list(block.ops)
        for argument in list(block.args):
            shape = RowsOf(shape_of(argument), self.func).rows
            new = block.insert_arg(
                TensorType(tensor_type(argument).element_type, shape), argument.index
            )
            new.name_hint = argument.name_hint
            self.rows[argument] = new
        for op in old:
            if isinstance(op, aten.Get):
                continue
            self.builder = Builder(InsertPoint.before(op))
            if isinstance(op, ReturnOp):
                returned = ReturnOp(*(self.rows[o] for o in op.operands))
                self.builder.insert(returned)
                outputs = [o.type for o in returned.operands]
            elif any(o in self.rows for o in op.operands):
                for result, row in zip(op.results, self._rewrite(op), strict=True):
                    row.name_hint = result.name_hint
                    self.rows[result] = row
        for op in reversed(old):
            if not isinstance(op, aten.Get):
                op.detach()
                op.erase(safe_erase=False)
        for argument in [a for a in block.args if a in self.rows]:
            block.erase_arg(argument)
        self.func.properties["function_type"] = FunctionType.from_lists(
            [a.type for a in block.args], outputs
        )

    # ---- one op ----

    def _rewrite(self, op: Operation) -> Sequence[SSAValue]:
        if isinstance(op, spz.Attention | spz.Embed | spz.ExpertLinear):
            new = op.clone({o: self.rows[o] for o in op.operands})
            return self.builder.insert(new).results
        if isinstance(op, aten.Elementwise):
            return self._elementwise(op)
        if isinstance(op, aten.Reshape):
            return [self._reshape(op)]
        if isinstance(op, aten.Permute):
            return [self._permute(op)]
        if isinstance(op, aten.Expand):
            return [self._expand(op)]
        if isinstance(op, ALONG_DIM):
            return self._along_dim(op)
        if isinstance(op, LAST_DIM):
            return self._last_dim(op)
        if isinstance(op, aten.Embedding) and op.operands[0] not in self.rows:
            return self._emit(op, {"weight": op.operands[0], "indices": self.rows[op.operands[1]]})
        raise PassError(op, "is not supported on values that depend on tokens, outside attention")

    def _emit(self, op: CallOp, arguments: dict[str, object]) -> Sequence[SSAValue]:
        """The same call on rows."""
        types = [
            TensorType(tensor_type(r).element_type, RowsOf(shape_of(r), op).rows)
            for r in op.results
        ]
        new = type(op).call(op.arguments() | arguments, types, module_path(op))
        return self.builder.insert(new).results

    def _elementwise(self, op: aten.Elementwise) -> Sequence[SSAValue]:
        out = RowsOf(shape_of(op.results[0]), op)
        arguments: dict[str, object] = {}
        for name, value in op.arguments().items():
            if isinstance(value, SSAValue):
                arguments[name] = self._broadcast(value, out, op)
        return self._emit(op, arguments)

    def _broadcast(self, value: SSAValue, out: RowsOf, op: Operation) -> SSAValue:
        """An operand so that it broadcasts against the rows of the result as it did before."""
        shape = shape_of(value)
        padded = (1,) * (len(out.shape) - len(shape)) + shape
        is_rows = value in self.rows
        if padded[out.position] != (DYNAMIC_INDEX if is_rows else 1):
            raise PassError(op, "combines a token with another one, outside attention")
        rest = [padded[d] for d in out.kept]
        if is_rows:
            return self._reshaped(self.rows[value], (DYNAMIC_INDEX, *rest), op)
        while rest and rest[0] == 1:  # leading dimensions of size 1 say nothing
            del rest[0]
        return self._reshaped(value, rest, op)

    def _reshaped(self, value: SSAValue, shape: Sequence[int], op: Operation) -> SSAValue:
        if shape_of(value) == tuple(shape):
            return value
        return self.builder.insert(reshape(value, shape, module_path(op))).results[0]

    def _reshape(self, op: aten.Reshape) -> SSAValue:
        source = RowsOf(shape_of(op.operands[0]), op)
        result = RowsOf(shape_of(op.results[0]), op)
        before, after = (math.prod(x.shape[: x.position]) for x in (source, result))
        if before != after or math.prod(source.rows[1:]) != math.prod(result.rows[1:]):
            raise PassError(op, "mixes positions with other dimensions")
        return self._reshaped(self.rows[op.operands[0]], result.rows, op)

    def _permute(self, op: aten.Permute) -> SSAValue:
        source = RowsOf(shape_of(op.operands[0]), op)
        dims = [d % len(source.shape) for d in op.arg("dims")]
        # The batch dimension may have moved: as rows it has size 1 wherever it is.
        result = RowsOf(shape_of(op.results[0]), op)
        order = [source.kept.index(d) for d in dims if d in source.kept]
        value = self.rows[op.operands[0]]
        if order != list(range(len(order))):
            shape = [DYNAMIC_INDEX, *(source.rows[1 + d] for d in order)]
            new = aten.Permute.call(
                {"self": value, "dims": [0, *(1 + d for d in order)]},
                [TensorType(tensor_type(value).element_type, shape)],
                module_path(op),
            )
            value = self.builder.insert(new).results[0]
        return self._reshaped(value, result.rows, op)

    def _expand(self, op: aten.Expand) -> SSAValue:
        out = RowsOf(shape_of(op.results[0]), op)
        value = self._broadcast(op.operands[0], out, op)
        if shape_of(value) == out.rows:
            return value
        new = aten.Expand.call(
            {"self": value, "size": sizes(out.rows)},
            [TensorType(tensor_type(value).element_type, out.rows)],
            module_path(op),
        )
        return self.builder.insert(new).results[0]

    def _along_dim(self, op: CallOp) -> Sequence[SSAValue]:
        tokens = [o for o in op.operands if o in self.rows]
        source = RowsOf(shape_of(tokens[0]), op)
        dims = op.arg("dim")
        if dims is None:
            raise PassError(op, "reads all positions at once, outside attention")
        mapped: object = (
            [source.dim(d, op) for d in dims] if isinstance(dims, list) else source.dim(dims, op)
        )
        arguments: dict[str, object] = {"dim": mapped}
        for name, value in op.arguments().items():
            if isinstance(value, SSAValue):
                arguments[name] = self.rows.get(value, value)
            elif isinstance(value, list) and value and isinstance(value[0], SSAValue):
                if any(v not in self.rows for v in value):
                    raise PassError(op, "joins a token with a weight")
                arguments[name] = [self.rows[v] for v in value]
        return self._emit(op, arguments)

    def _last_dim(self, op: CallOp) -> Sequence[SSAValue]:
        tokens = [o for o in op.operands if o in self.rows]
        if len(tokens) != 1:
            raise PassError(op, "multiplies two values that depend on tokens, outside attention")
        if isinstance(op, aten.Matmul) and len(shape_of(op.operands[1])) > 2:
            raise PassError(op, "multiplies each head with a matrix of its own")
        source = RowsOf(shape_of(tokens[0]), op)
        normalized = getattr(op, "normalized_shape", None)
        last = len(op.arg("normalized_shape")) if normalized is not None else 1
        if source.position >= len(source.shape) - last:
            raise PassError(op, "reads other positions than its own, outside attention")
        return self._emit(op, {n: self.rows[v] for n, v in op.arguments().items() if v in tokens})


class ToRows(Pass):
    name = "to-rows"
    help = "put tokens first in every value, and prove that each row is treated alone"
    ensures = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for func in functions(module):
            Rewriter(func).run()
