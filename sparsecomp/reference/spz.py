"""What each spz op means, in torch float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, SymbolRefAttr
from xdsl.ir import Operation

from sparsecomp.dialects import exec, spz
from sparsecomp.rounding import rounded

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
            q, k, v, *kept = operands
            positions = torch.arange(len(q))
            out = _attention(op, q, positions, _Rows(positions, k, v), weight)
            return out * kept[0][..., None] if kept else out
        case spz.CachedAttention():
            q, k, v, positions, cache, *kept = operands
            rows = cache.write(op.slot.value.data, _Rows(positions, k, v))
            out = _attention(op, q, positions, rows, weight)
            return out * kept[0][..., None] if kept else out
        case spz.Mlp() | spz.GatedMlp() | spz.SparseMlp():
            # Known values save work and change nothing.
            x, *kept = _kept(op, operands)
            hidden = neurons(op, x, weight)
            hidden = hidden * kept[0] if kept else hidden
            down = weight(op.down.string_value())
            out = F.linear(hidden, down, named(op.down_bias))
            if len(kept) == 3:
                out = out + F.linear(kept[2] * kept[1], coarse(down.T).T)
            return out
        case spz.Neurons():
            x, *z = operands
            if op.coarse is None:
                return neurons(op, x, weight)
            factors = named(op.correction)
            missing = None if factors is None else F.linear(z[0], factors)
            return neurons(op, x, weight, lambda name: coarse(weight(name)), missing)
        case spz.Predict():
            down, up = weight(op.down.string_value()), weight(op.up.string_value())
            return F.linear(F.linear(operands[0], down), up, named(op.bias))
        case spz.Select():
            return choose(op, operands[0], named(op.scales))
        case spz.Sketch():
            x = operands[0]
            rows, bias = weight(op.rows.string_value()), weight(op.bias.string_value())
            return F.linear(x[:, :-1], rows, bias) + x[:, -1:]
        case spz.Refine():
            scores, selection, _ = operands
            return torch.where(selection, scores, scores + _number(op.offset))
        case spz.SparseHead():
            x, selection, scores = operands
            logits = F.linear(x, weight(op.weight.string_value()), named(op.bias))
            return torch.where(selection, logits, scores + _number(op.offset))
        case spz.SparseLinear():
            x, selection = operands
            return _sparse_linear(op, x, selection, weight)
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


def neurons(
    op: Operation,
    x: torch.Tensor,
    weight: Weight,
    matrix: Weight | None = None,
    missing: torch.Tensor | None = None,
    *,
    gate_only: bool = False,
) -> torch.Tensor:
    """The values (T, neurons) of an MLP's neurons; without `up`, or if asked, of their gates.

    `matrix` gives what stands for gate and up. `missing` (T, parts neurons) is added to their
    products: of each neuron that of gate, where there is one, then that of up.
    """

    def project(name: str) -> torch.Tensor | None:
        symbol, bias = op.properties.get(name), op.properties.get(f"{name}_bias")
        if not isinstance(symbol, SymbolRefAttr):
            return None
        added = weight(bias.string_value()) if isinstance(bias, SymbolRefAttr) else None
        product = F.linear(x, (matrix or weight)(symbol.string_value()), added)
        if missing is None:
            return product
        return product + missing.view(*product.shape, -1)[..., 0 if name == "gate" else -1]

    act = op.properties["act"]
    assert isinstance(act, spz.ActAttr)
    gate, up = project("gate"), None if gate_only else project("up")
    if gate is None:
        assert up is not None
        return ACTS[act.data](up)
    return ACTS[act.data](gate) if up is None else ACTS[act.data](gate) * up


def _kept(op: spz.Mlp | spz.GatedMlp | spz.SparseMlp, operands: Sequence[Any]) -> list[Any]:
    """The input and what the mlp keeps, without what else is known of it."""
    known = 1 if isinstance(op, spz.SparseMlp) and op.values is not None else 0
    return [*operands[:2], *operands[2 + known :]]


def coarse(weight: torch.Tensor) -> torch.Tensor:
    """What the high planes of rows (n, width) in 8 bits say of them."""
    return rounded(weight, 8).coarse().values(weight.shape[1])


def choose(
    op: spz.Select | exec.Select, scores: torch.Tensor, scales: torch.Tensor | None
) -> torch.Tensor:
    """The chosen units (T, units), boolean, by their scores (T, units) and scales (units,)."""
    if op.magnitude is not None:
        scores = scores.abs()
    if scales is not None:
        scores = scores * scales
    if op.threshold is not None:
        chosen = scores > _number(op.threshold)
        return chosen if op.below is None else chosen & (scores <= _number(op.below))
    assert op.group is not None and op.count is not None
    count, group = op.count.value.data, op.group.value.data
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for start in range(0, scores.shape[-1], group):
        part = scores[..., start : start + group]
        best = part.argsort(dim=-1, descending=True, stable=True)[..., :count]
        kept[..., start : start + group].scatter_(-1, best, True)
    if op.probability is not None:
        kept |= scores.softmax(-1) > _number(op.probability)
    return kept


def _sparse_linear(
    op: spz.SparseLinear, x: torch.Tensor, selection: torch.Tensor, weight: Weight
) -> torch.Tensor:
    matrix = weight(op.weight.string_value())
    bias = None if op.bias is None else weight(op.bias.string_value())
    blocks = selection.shape[-1]
    if op.side.data is spz.Side.INPUTS:
        kept = selection.repeat_interleave(matrix.shape[1] // blocks, dim=-1)
        return F.linear(x * kept, matrix, bias)
    return F.linear(x, matrix, bias) * selection.repeat_interleave(len(matrix) // blocks, dim=-1)


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
