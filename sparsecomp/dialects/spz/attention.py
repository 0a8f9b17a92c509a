"""Attention, over the rows of a sequence or over its cache, and rotary embeddings."""

from __future__ import annotations

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, TensorType
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException

from .attributes import F64, I64, KVCacheType, PairingAttr
from .operation import PureOp, SpzOp


@irdl_op_definition
class Rope(PureOp):
    """Rotary position embedding of the first R elements of each head; the others pass.

    `y[i] = cos[pos, i] * x[i] + sin[pos, i] * x[partner(i)]`, tables (positions, R). The sign that
    a rotation has is in the sine table.
    """

    name = "spz.rope"
    x = operand_def(TensorType)
    positions = operand_def(TensorType)
    cos = prop_def(FlatSymbolRefAttrConstr)
    sin = prop_def(FlatSymbolRefAttrConstr)
    rotary = prop_def(I64)
    pairing = prop_def(PairingAttr)
    result = result_def(TensorType)
    assembly_format = (
        "$x `,` $positions `,` $cos `,` $sin attr-dict `:` type($x) `,` type($positions) "
        "`->` type($result)"
    )


class AttentionOp(SpzOp):
    """Causal attention. q (T, H, D), k (T, G, D), v (T, G, E) -> (T, H, E); head h reads group
    `h * G / H`. The row at position p sees the positions j in (p - window, p] of its own chunk:

        weight(j) ~ exp(cap(scale * q.k_j) + slope_h * (j - p))
        cap(x) = softcap * tanh(x / softcap)

    A sink is a logit per head that takes its share of the softmax and adds nothing.
    With a selection (T, H) a head that is not selected gives 0.
    """


@irdl_op_definition
class Attention(AttentionOp):
    """Attention over the rows of the whole sequence."""

    name = "spz.attention"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    selection = opt_operand_def(TensorType)
    scale = prop_def(F64)
    window = opt_prop_def(I64)
    chunk = opt_prop_def(I64)
    softcap = opt_prop_def(F64)
    slopes = opt_prop_def(FlatSymbolRefAttrConstr)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$q `,` $k `,` $v (`keeping` $selection^ `:` type($selection))? attr-dict `:` type($q) "
        "`,` type($k) `,` type($v) `->` type($result)"
    )

    def verify_(self) -> None:
        _verify_heads(self.q.type, self.k.type, self.v.type, self.result.type)


@irdl_op_definition
class CachedAttention(AttentionOp):
    """Writes k and v of these rows into slot `slot` of the cache, then attends over the cache."""

    name = "spz.cached_attention"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    positions = operand_def(TensorType)
    cache = operand_def(KVCacheType)
    selection = opt_operand_def(TensorType)
    slot = prop_def(I64)
    scale = prop_def(F64)
    window = opt_prop_def(I64)
    chunk = opt_prop_def(I64)
    softcap = opt_prop_def(F64)
    slopes = opt_prop_def(FlatSymbolRefAttrConstr)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = (
        "$q `,` $k `,` $v `,` $positions `,` $cache "
        "(`keeping` $selection^ `:` type($selection))? attr-dict `:` type($q) `,` type($k) `,` "
        "type($v) `,` type($positions) `->` type($result)"
    )

    def verify_(self) -> None:
        _verify_heads(self.q.type, self.k.type, self.v.type, self.result.type)


def _verify_heads(*types: object) -> None:
    q, k, v, out = (t.get_shape() for t in types if isinstance(t, TensorType))
    if not len(q) == len(k) == len(v) == len(out) == 3:
        raise VerifyException("attention takes rows of heads: (tokens, heads, size)")
    if k[1] != v[1] or q[1] % k[1] or q[2] != k[2] or out[1:] != (q[1], v[2]):
        raise VerifyException(f"attention heads do not fit: q {q}, k {k}, v {v} -> {out}")
