"""raise-attention: the one place that mixes positions, however it is spelled, becomes one op.

Found from its softmax: scores = softmax(cap(scale * q k^T) + mask), then scores @ v; or from
scaled_dot_product_attention. Keys and values are taken where they are smallest, before heads are
repeated. What the mask says is found by evaluating it (masks.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FloatAttr,
    IntegerAttr,
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    f32,
    f64,
    i1,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Pass, PassContext, PassError, functions, module_path
from .build import from_module, permute, reshape, shape_of, sizes, tensor_type, with_shape
from .kinds import Kind, classify
from .masks import CAUSAL, Mask, MaskReader, Term
from .outline import Outliner
from .scores import Scores, ScoresReader, weighted_sums

# ---- keys and values where they are smallest ----


def _chain(value: SSAValue) -> Iterator[SSAValue]:
    """The value, what it is an index map of, and so on."""
    yield value
    op = value.owner
    while isinstance(op, aten.Structural) and len(op.operands) == 1:
        yield op.operands[0]
        op = op.operands[0].owner


def rows(value: SSAValue, builder: Builder) -> SSAValue:
    """(..., s, D) as rows of heads (s, H, D)."""
    *lead, _, size = shape_of(value)
    heads = math.prod(lead)
    flat = builder.insert(reshape(value, (heads, DYNAMIC_INDEX, size)))
    return builder.insert(permute(flat.results[0], (1, 0, 2))).results[0]


def _led_by(lead: tuple[int, ...], value: SSAValue, builder: Builder) -> SSAValue:
    """Keys or values with the leading dimensions of the queries, as a product broadcasts them."""
    shape = (*lead, *shape_of(value)[-2:])
    if math.prod(shape_of(value)[:-2]) == math.prod(lead):
        return value
    arguments = {"self": value, "size": sizes(shape)}
    return builder.insert(aten.Expand.call(arguments, [with_shape(value, shape)])).results[0]


def smallest_rows(
    value: SSAValue, transposed: bool, ctx: PassContext, builder: Builder
) -> SSAValue:
    """Keys or values as rows (s, G, D), from before heads are repeated where that can be.

    The index map from each earlier value is found by running the reshapes on indices: an earlier
    value serves when head h reads the whole of group h * G / H at its own position.
    """
    length = 3
    candidates = list(_chain(value))
    for source in reversed(candidates):
        shape = shape_of(source)
        if shape.count(DYNAMIC_INDEX) != 1:
            continue
        dims = [length if n == DYNAMIC_INDEX else n for n in shape]
        at = shape.index(DYNAMIC_INDEX)
        rest = math.prod(dims) // length
        # Number the elements by (position, rest).
        index = torch.arange(length * rest).reshape(length, *dims[:at], *dims[at + 1 :])
        index = index.movedim(0, at)
        (mapped,) = ctx.evaluate([value], {source: index}, length=length, weights=ctx.weights)
        if transposed:
            mapped = mapped.transpose(-1, -2)
        mapped = mapped.reshape(-1, *mapped.shape[-2:])  # (H, s, D)
        heads, _, size = mapped.shape
        groups, leftover = divmod(rest, size)
        if leftover or not groups or heads % groups:
            continue
        expected = torch.arange(length * rest).reshape(length, groups, size).transpose(0, 1)
        if torch.equal(mapped, expected.repeat_interleave(heads // groups, dim=0)):
            order = [at, *(d for d in range(len(shape)) if d != at)]
            front = builder.insert(permute(source, order))
            out = builder.insert(reshape(front.results[0], (DYNAMIC_INDEX, groups, size)))
            return out.results[0]
    if transposed:
        rank = len(shape_of(value))
        order = [*range(rank - 2), rank - 1, rank - 2]
        value = builder.insert(permute(value, order)).results[0]
    return rows(value, builder)


# ---- the pass ----


class RaiseAttention(Pass):
    name = "raise-attention"
    help = "softmax(q k^T) v, however it is spelled, becomes spz.attention"

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        outliner = Outliner(module)
        for func in functions(module):
            kinds = classify(func)
            masks = MaskReader(ctx)
            reader = ScoresReader(kinds, ctx)
            for op in list(func.body.block.ops):
                if isinstance(op, aten.ScaledDotProductAttention):
                    self._sdpa(op, masks, outliner, ctx)
                elif isinstance(op, aten.Softmax) and kinds[op.operands[0]] is Kind.TOKEN:
                    self._spelled(op, reader, masks, outliner, ctx)
        region_dce(module.body)

    def _spelled(
        self,
        softmax: aten.Softmax,
        reader: ScoresReader,
        masks: MaskReader,
        outliner: Outliner,
        ctx: PassContext,
    ) -> None:
        if shape_of(softmax.operands[0])[softmax.arg("dim")] != DYNAMIC_INDEX:
            return  # a softmax over something else, a router say
        scores = reader.read(softmax.operands[0])
        products = weighted_sums(softmax, scores is not None and scores.sinks is not None)
        if scores is None or not products:
            raise PassError(softmax, "mixes positions in a way that is no attention we know")
        if not scores.terms:
            raise PassError(softmax, "has no causal mask: a token would see later tokens")
        assert scores.q is not None and scores.k_transposed is not None
        # Shares that two values are summed with are two attentions, each with its own cache.
        for product in products:
            builder = Builder(InsertPoint.before(product))
            lead = shape_of(scores.q)[:-2]
            q = rows(scores.q, builder)
            k = smallest_rows(_led_by(lead, scores.k_transposed, builder), True, ctx, builder)
            v = smallest_rows(_led_by(lead, product.operands[1], builder), False, ctx, builder)
            mask = masks.read(scores.terms, shape_of(q)[1], softmax)
            self._replace(product, builder, q, k, v, mask, scores, outliner)

    def _sdpa(
        self,
        op: aten.ScaledDotProductAttention,
        masks: MaskReader,
        outliner: Outliner,
        ctx: PassContext,
    ) -> None:
        arguments = op.arguments()
        query, key, value = arguments["query"], arguments["key"], arguments["value"]
        builder = Builder(InsertPoint.before(op))
        q = rows(query, builder)
        if not arguments["enable_gqa"]:
            key, value = (_led_by(shape_of(query)[:-2], x, builder) for x in (key, value))
        k = smallest_rows(key, False, ctx, builder)
        v = smallest_rows(value, False, ctx, builder)
        if arguments["is_causal"]:
            mask = CAUSAL
        elif arguments["attn_mask"] is None:
            raise PassError(op, "has no causal mask: a token would see later tokens")
        else:
            given = arguments["attn_mask"]
            boolean = tensor_type(given).element_type == i1
            mask = masks.read([Term(given, forbids=False if boolean else None)], shape_of(q)[1], op)
        scale = arguments["scale"]
        scores = Scores(scale=1.0 / math.sqrt(shape_of(q)[2]) if scale is None else scale)
        self._replace(op, builder, q, k, v, mask, scores, outliner)

    def _replace(
        self,
        op: Operation,
        builder: Builder,
        q: SSAValue,
        k: SSAValue,
        v: SSAValue,
        mask: Mask,
        scores: Scores,
        outliner: Outliner,
    ) -> None:
        path = module_path(op)
        if shape_of(q)[1] % shape_of(k)[1] or shape_of(k)[1] != shape_of(v)[1]:
            k, v = _same_groups(k, v, shape_of(q)[1], builder)
        properties: dict[str, Attribute] = {"scale": FloatAttr(scores.scale, f64)}
        for key, number in (("window", mask.window), ("chunk", mask.chunk)):
            if number is not None:
                properties[key] = IntegerAttr(number, i64)
        if scores.softcap is not None:
            properties["softcap"] = FloatAttr(scores.softcap, f64)
        if mask.slopes is not None:
            properties["slopes"] = _constant(outliner, f"{path}.alibi_slopes", mask.slopes)
        if scores.sinks is not None:
            properties["sinks"] = _sinks(scores.sinks, shape_of(q)[1], op)
        attention = spz.Attention.build(
            operands=[q, k, v, None],
            properties=properties,
            attributes=from_module(path),
            result_types=[TensorType(f32, [DYNAMIC_INDEX, shape_of(q)[1], shape_of(v)[2]])],
        )
        builder.insert(attention)
        heads_first = builder.insert(permute(attention.result, (1, 0, 2), path))
        result = builder.insert(reshape(heads_first.results[0], shape_of(op.results[0]), path))
        op.results[0].replace_all_uses_with(result.results[0])


def _same_groups(
    k: SSAValue, v: SSAValue, heads: int, builder: Builder
) -> tuple[SSAValue, SSAValue]:
    """Repeat the groups of one so that keys and values have as many."""
    groups = max(shape_of(k)[1], shape_of(v)[1])
    out = []
    for value in (k, v):
        t, g, d = shape_of(value)
        if g != groups:
            one = builder.insert(reshape(value, (t, g, 1, d)))
            size = aten.Expand.call(
                {"self": one.results[0], "size": [-1, g, groups // g, d]},
                [TensorType(f32, [t, g, groups // g, d])],
            )
            builder.insert(size)
            value = builder.insert(reshape(size.results[0], (t, groups, d))).results[0]
        out.append(value)
    return out[0], out[1]


def _constant(outliner: Outliner, name: str, numbers: tuple[float, ...]) -> SymbolRefAttr:
    block = Block()
    parts = []
    for number in numbers:
        part = aten.Full.call({"size": [1], "fill_value": number}, [TensorType(f32, [1])])
        block.add_op(part)
        parts.append(part.results[0])
    cat = aten.Cat.call({"tensors": parts}, [TensorType(f32, [len(parts)])])
    block.add_op(cat)
    symbol, _ = outliner.add(name, block, cat.results[0])
    return SymbolRefAttr(symbol)


def _sinks(value: SSAValue, heads: int, op: Operation) -> SymbolRefAttr:
    """The weight of one logit per head behind `sinks.reshape(1, H, 1, 1).expand(1, H, s, 1)`."""
    for source in _chain(value):
        if isinstance(source.owner, aten.Get) and math.prod(shape_of(source)) == heads:
            return SymbolRefAttr(source.owner.weight.string_value())
    raise PassError(op, "its extra scores are not one weight per head")
