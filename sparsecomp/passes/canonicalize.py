"""canonicalize: one spelling for each meaning.

Casts and copies that change nothing go; every reshape is `aten.reshape`, every reordering of
dimensions `aten.permute`, every part `aten.slice`; sums and products with a number are the Scalar
overloads. Later passes match these spellings only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
)
from xdsl.transforms.common_subexpression_elimination import cse
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten
from sparsecomp.dialects.schema import CallOp, Dim

from .base import Pass, PassContext, module_path
from .build import permute, shape_of, sizes, slice_dim, tensor_type, with_shape
from .kinds import dynamic_dims
from .outline import backward_slice

IDENTITIES = (
    aten.Dropout,
    aten.Contiguous,
    aten.Clone,
    aten.Alias,
    aten.Detach,
    aten.DetachInplace,
    aten.LiftFreshCopy,
)
CASTS = (aten.ToDtype, aten.ToLayout, aten.ToDevice, aten.ToCopy, aten.ToOther, aten.TypeAs)
RESHAPES = (
    aten.View,
    aten.UnsafeView,
    aten.Flatten,
    aten.Unflatten,
    aten.Unsqueeze,
    aten.Squeeze,
    aten.SqueezeDim,
    aten.SqueezeDims,
    aten.ViewAs,
    aten.ReshapeAs,
)
SPLITS = (aten.Chunk, aten.Split, aten.SplitWithSizes, aten.SplitSizes)


class DropIdentity(RewritePattern):
    """Dropout in evaluation, copies, casts to the type a value has."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if isinstance(op, aten.Dropout):
            if op.arg("train"):
                return
        elif isinstance(op, CASTS):
            if op.operands[0].type != op.results[0].type:
                return
        elif not isinstance(op, IDENTITIES):
            return
        rewriter.replace(op, [], [op.operands[0]])


class DropFullSlice(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Slice) or op.arg("step") != 1 or op.arg("start"):
            return
        size, end = shape_of(op.operands[0])[op.arg("dim")], op.arg("end")
        # `?` may count more than s positions, so that an end of s need not be the whole.
        whole = end is None or (size != DYNAMIC_INDEX and isinstance(end, int) and end >= size)
        if whole or (isinstance(end, int) and end >= 1 << 62):
            rewriter.replace(op, [], [op.operands[0]])


class OneReshape(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if isinstance(op, (*RESHAPES, aten.Reshape)):
            source, result = op.operands[0], op.results[0]
            if source.type == result.type and shape_of(source).count(DYNAMIC_INDEX) <= 1:
                rewriter.replace(op, [], [source])
            elif isinstance(op, aten.Reshape):
                producer = source.owner
                if isinstance(producer, aten.Reshape):  # a view of a view is one view
                    rewriter.replace(op, _reshape(producer.operands[0], op))
            else:
                rewriter.replace(op, _reshape(source, op))


def _reshape(value: SSAValue, op: CallOp) -> CallOp:
    """The reshape of a value to the result of a call, by the sizes that the call gives if any."""
    match op:
        case aten.View() | aten.UnsafeView():
            size = op.arg("size")
        case aten.Reshape():
            size = op.arg("shape")
        case _:
            return _view(value, shape_of(op.results[0]), op)
    return aten.Reshape.call({"self": value, "shape": size}, result_types(op), module_path(op))


def _view(value: SSAValue, shape: Sequence[int], op: Operation) -> CallOp:
    """A reshape for which one `?` is left to be counted: it need not be s."""
    size = sizes(shape)
    if list(shape).count(DYNAMIC_INDEX) == 1:
        size = [-1 if n == DYNAMIC_INDEX else n for n in shape]
    type = with_shape(value, shape)
    return aten.Reshape.call({"self": value, "shape": size}, [type], module_path(op))


class ReorderToPermute(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        order = _order(op)
        if order is None:
            return
        if order == list(range(len(order))):
            rewriter.replace(op, [], [op.operands[0]])
        elif not isinstance(op, aten.Permute):
            rewriter.replace(op, permute(op.operands[0], order, module_path(op)))
        elif isinstance(inner := op.operands[0].owner, aten.Permute):
            composed = [[d % len(order) for d in inner.arg("dims")][d] for d in order]
            rewriter.replace(op, permute(inner.operands[0], composed, module_path(op)))


def _order(op: Operation) -> list[int] | None:
    """The order of source dimensions in the result, when an op only reorders dimensions."""
    if not isinstance(op, CallOp) or not op.operands:
        return None
    rank = len(shape_of(op.operands[0]))
    order = list(range(rank))
    match op:
        case aten.Transpose() | aten.Swapaxes() | aten.Swapdims():
            a, b = (op.arg(x.name) for x in op.ARGS[1:3])
            order[a], order[b] = order[b], order[a]
        case aten.T():
            order.reverse()
        case aten.NumpyT():
            order.reverse()
        case aten.MT():
            order[-2:] = order[:-3:-1]
        case aten.Movedim():
            moved = order.pop(op.arg("source"))
            order.insert(op.arg("destination") % rank, moved)
        case aten.Permute():
            order = [d % rank for d in op.arg("dims")]
        case _:
            return None
    return order


class PartsToSlices(RewritePattern):
    """chunk, split, unbind, narrow, select: each part is a slice."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if isinstance(op, SPLITS):
            dim, start, parts = op.arg("dim"), 0, []
            for result in op.results:
                size = shape_of(result)[dim]
                if size == DYNAMIC_INDEX:
                    return
                parts.append(slice_dim(op.operands[0], dim, start, start + size, module_path(op)))
                start += size
            rewriter.replace(op, parts, [p.results[0] for p in parts])
        elif isinstance(op, aten.Unbind):
            self._select(op, list(range(len(op.results))), rewriter)
        elif isinstance(op, aten.Select) and isinstance(op.arg("index"), int):
            self._select(op, [op.arg("index")], rewriter)
        elif isinstance(op, aten.Narrow):
            start, length = op.arg("start"), op.arg("length")
            if isinstance(start, int) and isinstance(length, int):
                part = slice_dim(
                    op.operands[0], op.arg("dim"), start, start + length, module_path(op)
                )
                rewriter.replace(op, part)

    @staticmethod
    def _select(op: CallOp, indices: list[int], rewriter: PatternRewriter) -> None:
        dim = op.arg("dim")
        size = shape_of(op.operands[0])[dim]
        if size == DYNAMIC_INDEX:
            return
        new: list[Operation] = []
        values: list[SSAValue] = []
        for index, result in zip(indices, op.results, strict=True):
            index %= size
            part = slice_dim(op.operands[0], dim, index, index + 1, module_path(op))
            new += [part, _view(part.results[0], shape_of(result), op)]
            values.append(new[-1].results[0])
        rewriter.replace(op, new, values)


class ConstantIndexToSlice(RewritePattern):
    """`x[:, [-2]]`: neighbours picked by a constant index are a slice."""

    def __init__(self, ctx: PassContext):
        self.ctx = ctx

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Index) or len(op.operands) != 2:
            return
        dim = op.arg_holes("indices").index(False)
        source, index = op.operands
        size = shape_of(source)[dim]
        if size == DYNAMIC_INDEX or len(shape_of(index)) != 1 or not _is_constant(index):
            return
        (chosen,) = self.ctx.evaluate([index], {}, length=1, weights=self.ctx.weights)
        places = [int(i) % size for i in chosen.tolist()]
        if places and places == list(range(places[0], places[-1] + 1)):
            first, last = places[0], places[-1]
            rewriter.replace(op, slice_dim(source, dim, first, last + 1, module_path(op)))


def _is_constant(value: SSAValue) -> bool:
    """Whether no argument of the function and no length enters the computation of a value."""
    ops = backward_slice(value)
    return bool(ops) and all(
        isinstance(v.owner, Operation) and not dynamic_dims(v)
        for op in ops
        for v in (*op.operands, *op.results)
    )


class StackToCat(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Stack):
            return
        shape = list(shape_of(op.results[0]))
        dim = op.arg("dim") % len(shape)
        shape[dim] = 1
        views = [_view(x, shape, op) for x in op.operands]
        cat = aten.Cat.call(
            {"tensors": [v.results[0] for v in views], "dim": dim},
            [op.results[0].type],
            module_path(op),
        )
        rewriter.replace(op, [*views, cat])


class DropEmptyParts(RewritePattern):
    """A join leaves out operands without elements; of one operand it is nothing."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Cat):
            return
        full = [x for x in op.operands if 0 not in shape_of(x)]
        if len(full) == 1:
            rewriter.replace(op, [], full)
        elif 0 < len(full) < len(op.operands):
            arguments = {"tensors": full, "dim": op.arg("dim")}
            rewriter.replace(op, aten.Cat.call(arguments, result_types(op), module_path(op)))


class ExpandOnly(RewritePattern):
    """expand_as is expand, and an expand to the shape a value has is nothing."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Expand | aten.ExpandAs | aten.BroadcastTo):
            return
        source, result = op.operands[0], op.results[0]
        if source.type == result.type:
            rewriter.replace(op, [], [source])
        elif isinstance(op, aten.ExpandAs | aten.BroadcastTo):
            size = [Dim(1) if n == DYNAMIC_INDEX else n for n in shape_of(result)]
            rewriter.replace(
                op, aten.Expand.call({"self": source, "size": size}, [result.type], module_path(op))
            )


FILLS: dict[type[CallOp], Callable[[CallOp], object]] = {
    aten.ZerosLike: lambda op: 0,
    aten.NewZeros: lambda op: 0,
    aten.Zeros: lambda op: 0,
    aten.OnesLike: lambda op: 1,
    aten.NewOnes: lambda op: 1,
    aten.Ones: lambda op: 1,
    aten.FullLike: lambda op: op.arg("fill_value"),
    aten.NewFull: lambda op: op.arg("fill_value"),
}


class OneFull(RewritePattern):
    """A constant reads no other value, not even for its shape."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, CallOp) or type(op) not in FILLS:
            return
        type_ = tensor_type(op.results[0])
        full = aten.Full.call(
            {
                "size": sizes(type_.get_shape()),
                "fill_value": FILLS[type(op)](op),
                "dtype": type_.element_type,
            },
            [type_],
            module_path(op),
        )
        rewriter.replace(op, full)


RENAMES: dict[type[CallOp], tuple[type[CallOp], Callable[[CallOp], dict[str, object]]]] = {
    aten.Square: (aten.PowScalar, lambda op: {"exponent": 2}),
    aten.TrueDivide: (aten.Div, lambda op: {}),
    aten.MinOther: (aten.Minimum, lambda op: {}),
    aten.MaxOther: (aten.Maximum, lambda op: {}),
    aten.Clip: (aten.Clamp, lambda op: {"min": op.arg("min"), "max": op.arg("max")}),
    aten.ClampMin: (aten.Clamp, lambda op: {"min": op.arg("min")}),
    aten.ClampMax: (aten.Clamp, lambda op: {"max": op.arg("max")}),
    aten.BitwiseAnd: (aten.And, lambda op: {}),
    aten.BitwiseOr: (aten.Or, lambda op: {}),
    aten.LogicalAnd: (aten.And, lambda op: {}),
    aten.LogicalOr: (aten.Or, lambda op: {}),
    aten.SoftmaxInternal: (aten.Softmax, lambda op: {"dim": op.arg("dim")}),
}


class Rename(RewritePattern):
    """Two names of one function."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, CallOp) or type(op) not in RENAMES:
            return
        new, extra = RENAMES[type(op)]
        tensors = {a.name: v for a, v in zip(new.ARGS, op.operands, strict=False)}
        rewriter.replace(op, new.call(tensors | extra(op), result_types(op), module_path(op)))


class Subtraction(RewritePattern):
    """`other - self * alpha` without its own name; numbers of sums and differences folded."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if isinstance(op, aten.DivScalar):
            factor = op.arg("other")
            if factor and isinstance(op.results[0].type, TensorType) and _is_float(op.operands[0]):
                rewriter.replace(
                    op,
                    aten.MulScalar.call(
                        {"self": op.operands[0], "other": 1.0 / factor},
                        result_types(op),
                        module_path(op),
                    ),
                )
        elif isinstance(op, aten.SubScalar) and op.arg("alpha") == 1:
            rewriter.replace(
                op,
                aten.AddScalar.call(
                    {"self": op.operands[0], "other": -op.arg("other")},
                    result_types(op),
                    module_path(op),
                ),
            )
        elif isinstance(op, aten.AddScalar | aten.MulScalar):
            neutral = 0 if isinstance(op, aten.AddScalar) else 1
            if op.arg("other") == neutral and op.operands[0].type == op.results[0].type:
                rewriter.replace(op, [], [op.operands[0]])


def _is_float(value: SSAValue) -> bool:
    return tensor_type(value).element_type.name.startswith("f")


def result_types(op: Operation) -> Sequence[Attribute]:
    return [r.type for r in op.results]


class Canonicalize(Pass):
    name = "canonicalize"
    help = "one spelling for each meaning; drop what changes nothing; merge equal ops"

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        patterns = GreedyRewritePatternApplier(
            [
                DropIdentity(),
                DropFullSlice(),
                OneReshape(),
                ReorderToPermute(),
                PartsToSlices(),
                ConstantIndexToSlice(ctx),
                StackToCat(),
                DropEmptyParts(),
                ExpandOnly(),
                Rename(),
                OneFull(),
                Subtraction(),
            ]
        )
        PatternRewriteWalker(patterns).rewrite_module(module)
        cse(module)
        region_dce(module.body)
