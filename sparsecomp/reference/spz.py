"""What each spz op means, in torch float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, SymbolRefAttr
from xdsl.ir import Operation

from sparsecomp.dialects import spz

Weight = Callable[[str], torch.Tensor]
"""The value of the weight or derived weight that a symbol names."""

ACTS: dict[spz.Act, Callable[[torch.Tensor], torch.Tensor]] = {
    spz.Act.RELU: F.relu,
    spz.Act.RELU2: lambda x: F.relu(x).square(),
    spz.Act.SILU: F.silu,
    spz.Act.GELU_ERF: F.gelu,
    spz.Act.GELU_TANH: lambda x: F.gelu(x, approximate="tanh"),
    spz.Act.QUICK_GELU: lambda x: x * torch.sigmoid(1.702 * x),
    spz.Act.SIGMOID: torch.sigmoid,
    spz.Act.TANH: torch.tanh,
    spz.Act.IDENTITY: lambda x: x,
}


@dataclass
class KVCache:
    """The keys and values of one sequence: per slot the positions written, and their rows."""

    slots: dict[int, _Rows] = field(default_factory=dict)

    def write(self, slot: int, rows: _Rows) -> _Rows:
        """Add rows to a slot; those already there from the first new position on are dropped."""
        old = self.slots.get(slot)
        if old is not None:
            keep = old.positions < rows.positions.min()
            rows = _Rows(
                torch.cat([old.positions[keep], rows.positions]),
                torch.cat([old.k[keep], rows.k]),
                torch.cat([old.v[keep], rows.v]),
            )
        self.slots[slot] = rows
        return rows


@dataclass(frozen=True)
class _Rows:
    """positions (n,) int64, k (n, G, D) and v (n, G, E)."""

    positions: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor


def run(op: Operation, operands: Sequence[Any], weight: Weight) -> torch.Tensor:
    """The result of an spz op on rows of tokens; raises NotImplementedError for another op.

    The last operand of a cached attention is a KVCache, which it changes.
    """

    def named(symbol: SymbolRefAttr | None) -> torch.Tensor | None:
        return None if symbol is None else weight(symbol.string_value())

    match op:
        case spz.Embed():
            return weight(op.table.string_value())[operands[0]]
        case spz.RmsNorm():
            x = operands[0]
            return F.rms_norm(x, x.shape[-1:], named(op.weight), _number(op.eps))
        case spz.LayerNorm():
            x = operands[0]
            scale, bias = named(op.weight), named(op.bias)
            return F.layer_norm(x, x.shape[-1:], scale, bias, _number(op.eps))
        case spz.Linear() | spz.LmHead():
            return F.linear(operands[0], weight(op.weight.string_value()), named(op.bias))
        case spz.Rope():
            return _rope(op, operands[0], operands[1], weight)
        case spz.Attention():
            q, k, v = operands
            positions = torch.arange(len(q))
            return _attention(op, q, positions, _Rows(positions, k, v), weight)
        case spz.CachedAttention():
            q, k, v, positions, cache = operands
            rows = cache.write(op.slot.value.data, _Rows(positions, k, v))
            return _attention(op, q, positions, rows, weight)
        case spz.Mlp():
            hidden = F.linear(operands[0], weight(op.up.string_value()), named(op.up_bias))
            hidden = ACTS[op.act.data](hidden)
            return F.linear(hidden, weight(op.down.string_value()), named(op.down_bias))
        case spz.GatedMlp():
            gate = F.linear(operands[0], weight(op.gate.string_value()), named(op.gate_bias))
            up = F.linear(operands[0], weight(op.up.string_value()), named(op.up_bias))
            hidden = ACTS[op.act.data](gate) * up
            return F.linear(hidden, weight(op.down.string_value()), named(op.down_bias))
        case spz.ExpertLinear():
            x, experts = operands
            chosen = weight(op.weight.string_value())[experts]  # (T, C, out, in)
            out = torch.einsum("tcoi,tci->tco", chosen, x)
            bias = named(op.bias)
            return out if bias is None else out + bias[experts]
        case spz.Last():
            return operands[0][-1:]
        case _:
            raise NotImplementedError("the reference has no meaning for it")


def _rope(op: spz.Rope, x: torch.Tensor, positions: torch.Tensor, weight: Weight) -> torch.Tensor:
    rotary = op.rotary.value.data
    # One row of the table per token, the same for every head.
    shape = (len(x), *[1] * (x.dim() - 2), rotary)
    cos = weight(op.cos.string_value())[positions].view(shape)
    sin = weight(op.sin.string_value())[positions].view(shape)
    index = torch.arange(rotary)
    half = op.pairing.data is spz.Pairing.HALF
    partner = (index + rotary // 2) % rotary if half else index ^ 1
    turned = cos * x[..., :rotary] + sin * x[..., partner]
    return torch.cat([turned, x[..., rotary:]], dim=-1)


def _attention(
    op: spz.Attention | spz.CachedAttention,
    q: torch.Tensor,
    positions: torch.Tensor,
    rows: _Rows,
    weight: Weight,
) -> torch.Tensor:
    group = q.shape[1] // rows.k.shape[1]
    k = rows.k.repeat_interleave(group, dim=1)
    v = rows.v.repeat_interleave(group, dim=1)
    logits = _number(op.scale) * torch.einsum("phd,jhd->hpj", q, k)
    if op.softcap is not None:
        cap = _number(op.softcap)
        logits = cap * torch.tanh(logits / cap)
    p, j = positions[:, None], rows.positions[None, :]
    if op.slopes is not None:
        logits = logits + weight(op.slopes.string_value()).view(-1, 1, 1) * (j - p)
    visible = j <= p
    if op.window is not None:
        visible &= j > p - op.window.value.data
    if op.chunk is not None:
        visible &= j // op.chunk.value.data == p // op.chunk.value.data
    logits = logits.masked_fill(~visible, -torch.inf)
    if op.sinks is not None:
        sinks = weight(op.sinks.string_value()).view(-1, 1, 1).expand(-1, len(q), 1)
        shares = torch.cat([logits, sinks], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        shares = logits.softmax(dim=-1)
    return torch.einsum("hpj,jhe->phe", shares, v)


def _number(attribute: FloatAttr | IntegerAttr) -> float:
    value = attribute.value.data
    assert isinstance(value, int | float)
    return value
