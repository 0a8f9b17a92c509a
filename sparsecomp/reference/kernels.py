"""What each kernel of the exec dialect means: one worker's part of it, in torch float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from xdsl.ir import Operation, SSAValue

from sparsecomp import nibbles, sketches
from sparsecomp.dialects import aten, exec, spz
from sparsecomp.dialects.exec import Fold, Mode, shape_of
from sparsecomp.sketch_rounding import round_factors

from .evaluate import Scope, call_aten
from .spz import ACTS, choose

if TYPE_CHECKING:
    from .exec import Worker

FOLDS: dict[Fold, Callable[[torch.Tensor], torch.Tensor]] = {
    Fold.SUM: lambda x: x.sum(-1),
    Fold.MEAN: lambda x: x.mean(-1),
    Fold.MAX: lambda x: x.amax(-1),
    Fold.MIN: lambda x: x.amin(-1),
    Fold.SOFTMAX: lambda x: x.softmax(-1),
}


def _ids(w: Worker, index: exec.Index) -> torch.Tensor:
    return w.tokens if index is exec.Index.TOKENS else w.positions


def embed(w: Worker, op: exec.Embed) -> None:
    (table,) = w.weights(op, "table")
    out = w.tensor(op.out)
    out.copy_(table[_ids(w, op.index.data)].view_as(out))


def ids(w: Worker, op: exec.Ids) -> None:
    out = w.tensor(op.out)
    out.copy_(_ids(w, op.index.data).view_as(out))


def norm(w: Worker, op: exec.Norm) -> None:
    x, eps = w.tensor(op.x), op.eps.value.data
    weight, bias = w.weight(op, "weight"), w.weight(op, "bias")
    if op.kind.data is exec.NormKind.RMS:
        y = F.rms_norm(x, x.shape[-1:], weight, eps)
    else:
        y = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    w.tensor(op.out).copy_(y)


def quantize(w: Worker, op: exec.Quantize) -> None:
    """Here the values that the codes stand for, and zeros behind them."""
    x, out = w.tensor(op.x), w.tensor(op.out)
    out.copy_(_rounded(F.pad(x, (0, out.shape[-1] - x.shape[-1]))))


def _codes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors (.., width) in 15 bits: codes (groups, GROUP), scales (groups, 1)."""
    groups = F.pad(x, (0, -x.shape[-1] % nibbles.GROUP)).reshape(-1, nibbles.GROUP)
    scales = groups.abs().amax(1, keepdim=True) / nibbles.FACTOR_STEPS
    return (groups / torch.where(scales == 0, 1.0, scales)).round(), scales


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """Factors (.., width) as their codes have them."""
    codes, scales = _codes(x)
    return (codes * scales).view(*x.shape[:-1], -1)[..., : x.shape[-1]]


def _factor(w: Worker, value: SSAValue, weight: torch.Tensor) -> torch.Tensor:
    """What a weight is multiplied with, without the padding of a quantised row."""
    return w.tensor(value)[..., : weight.shape[-1]]


def _prompt_factor(
    w: Worker, op: exec.Kernel, value: SSAValue, name: str, weight: torch.Tensor
) -> torch.Tensor:
    """The same of a kernel that takes many rows, which some processors round."""
    x = _factor(w, value, weight)
    if not w.call.integers or op.work_of.mode is not Mode.ROWS:
        return x
    storage = exec.find_storage(op, op.properties[name])  # type: ignore[arg-type]
    by_rows = storage.layout.data is not exec.Layout.COLUMNS
    return _rounded(x) if storage.quantised and by_rows else x


def linear(w: Worker, op: exec.Linear) -> None:
    (weight,), bias = w.weights(op, "weight"), w.weight(op, "bias")
    units = w.units(op, len(weight))
    x = _prompt_factor(w, op, op.x, "weight", weight)
    y = F.linear(x, weight[units], None if bias is None else bias[units])
    if op.residual is not None:
        y = y + w.tensor(op.residual)[..., units]
    w.tensor(op.out)[..., units] = y


Units = slice | torch.Tensor


def _project(
    w: Worker, op: exec.Kernel, matrix: torch.Tensor, bias: str, units: Units
) -> torch.Tensor:
    """What these rows of a matrix give, with their part of a bias of the op."""
    (x, *_), added = op.inputs, w.weight(op, bias)
    rows, factor = matrix[units], _prompt_factor(w, op, x, "weights", matrix)
    if isinstance(op, exec.Neurons) and op.coarse is not None:
        factor = _high(factor)
    y = F.linear(factor, rows, None if added is None else added[units])
    if not isinstance(op, exec.Neurons) or op.z is None:
        return y
    (correction,) = w.weights(op, "correction")
    of_part = correction.unflatten(0, (len(matrix), -1))[:, 0 if bias == "gate_bias" else -1]
    return y + F.linear(_high(_factor(w, op.z, of_part)), of_part[units])


def _high(x: torch.Tensor) -> torch.Tensor:
    """Factors (1, width) of 15 bits rounded to their high 8: what coarse values are made of."""
    codes, scales = _codes(x)
    high = ((codes + 64) / 128).floor()
    return (128 * high * scales).view(1, -1)[:, : x.shape[-1]]


def _values(
    w: Worker,
    op: exec.Mlp | exec.Neurons | exec.SparseMlp,
    matrices: Sequence[torch.Tensor],
    units: Units,
) -> torch.Tensor:
    """The values of these neurons, whose rows lie in (gate,) up; of a gate alone, activations."""
    act = ACTS[op.act.data]
    if op.gated is None:
        return act(_project(w, op, matrices[-1], "up_bias", units))
    gates = act(_project(w, op, matrices[0], "gate_bias", units))
    if isinstance(op, exec.Neurons) and op.gate_only is not None:
        return gates
    return gates * _project(w, op, matrices[1], "up_bias", units)


def activate(w: Worker, op: exec.Activate) -> None:
    y = ACTS[op.act.data](w.tensor(op.x))
    w.tensor(op.out).copy_(y if op.up is None else y * w.tensor(op.up))


def mlp(w: Worker, op: exec.Mlp) -> None:
    *matrices, down = w.weights(op, "weights")
    units = w.units(op, len(matrices[0]))
    w.tensor(op.out).copy_(F.linear(_values(w, op, matrices, units), down[:, units]))


def select(w: Worker, op: exec.Select) -> None:
    (scales,) = w.weights(op, "scales") or (None,)
    (chosen,) = choose(op, w.tensor(op.x), scales)
    if op.or_all is not None and w.call.full_logits:
        chosen = torch.ones_like(chosen)
    indices = chosen.nonzero().flatten().int()
    slots = w.tensor(op.out)[0].view(torch.int32)
    slots[0] = len(indices)
    slots[1 : 1 + len(indices)] = indices


def listed(w: Worker, value: SSAValue) -> torch.Tensor:
    """The indices (n,) in a list."""
    count, *indices = w.tensor(value)[0].view(torch.int32).tolist()
    return torch.tensor(indices[:count], dtype=torch.int64)


def sparse_linear(w: Worker, op: exec.SparseLinear) -> None:
    (weight,), bias = w.weights(op, "weight"), w.weight(op, "bias")
    blocks, chosen = op.blocks.value.data, listed(w, op.list)
    x, out = w.tensor(op.x), w.tensor(op.out)
    if op.side.data is spz.Side.INPUTS:
        within = weight.view(len(weight), blocks, -1)
        units = w.units(op, within.shape[2])
        part = within[:, chosen, units].flatten(1)
        out.copy_(F.linear(x.view(len(x), blocks, -1)[:, chosen, units].flatten(1), part))
        return
    rows = weight.view(blocks, -1, weight.shape[1])
    units = w.units(op, rows.shape[1])
    y = torch.zeros(len(out), *rows.shape[:2])
    y[:, chosen] = torch.einsum("ti,bri->tbr", _factor(w, op.x, weight), rows[chosen])
    if bias is not None:
        y[:, chosen] += bias.view(blocks, -1)[chosen]
    out.view(len(out), blocks, -1)[:, :, units] = y[:, :, units]


def neurons(w: Worker, op: exec.Neurons) -> None:
    weights = w.weights(op, "weights", coarse=op.coarse is not None)
    units = w.units(op, len(weights[0]))
    inputs = weights if op.approximate else weights[:-1]  # the last is down
    w.tensor(op.out)[:, units] = _values(w, op, inputs, units)


def _share(w: Worker, chosen: torch.Tensor) -> tuple[int, int]:
    """Where a worker's share of a list begins and ends."""
    count, workers = len(chosen), w.call.workers
    return count * w.number // workers, count * (w.number + 1) // workers


def sketch(w: Worker, op: exec.Sketch) -> None:
    rows, bias = w.weights(op, "rows")
    units, x = w.units(op, len(rows)), w.tensor(op.x)
    bits = exec.find_storage(op, op.rows).bits
    groups = [group for group, _ in sketches.groups(rows.shape[1], bits)]
    y = F.linear(round_factors(x[:, :-1], groups), rows[units], bias[units])
    w.tensor(op.out)[:, units] = y + x[:, -1:]


HEAD_TURN = 32
"""Listed rows of a head that a worker takes at once."""


def _turns(w: Worker, chosen: torch.Tensor, count: int) -> torch.Tensor:
    """Which of `count` rows are a worker's (count,), bool."""
    # Of each row the last listed before it; its turn is whose the row is.
    before = torch.searchsorted(chosen, torch.arange(count), right=True) - 1
    return before.clamp(min=0) // HEAD_TURN % w.call.workers == w.number


def refine(w: Worker, op: exec.Refine) -> None:
    (rows,), x = w.weights(op, "rows"), w.tensor(op.x)[:, :-1]
    factors = round_factors(x, sketches.refined_groups(x.shape[1]))
    chosen, scores, out = listed(w, op.list), w.tensor(op.scores), w.tensor(op.out)
    own = _turns(w, chosen, len(rows))
    out[:, own] = scores[:, own] + op.offset.value.data
    units = chosen[own[chosen]]
    out[:, units] = scores[:, units] + F.linear(factors, rows[units])


def sparse_head(w: Worker, op: exec.SparseHead) -> None:
    (weight,), bias = w.weights(op, "weight"), w.weight(op, "bias")
    chosen, scores, out = listed(w, op.list), w.tensor(op.scores), w.tensor(op.out)
    own = _turns(w, chosen, len(weight))
    out[:, own] = scores[:, own] + op.offset.value.data
    units = chosen[own[chosen]]
    added = None if bias is None else bias[units]
    out[:, units] = F.linear(_factor(w, op.x, weight), weight[units], added)


def sparse_mlp(w: Worker, op: exec.SparseMlp) -> None:
    weights, chosen = w.weights(op, "weights"), listed(w, op.list)
    chosen = chosen[slice(*_share(w, chosen))]
    if op.values is None:
        hidden = _values(w, op, weights[:-1], chosen)
    else:
        hidden = w.tensor(op.values)[:, chosen]
        if op.gate_known is not None:
            hidden = hidden * _project(w, op, weights[1], "up_bias", chosen)
    y = F.linear(hidden, weights[-1][:, chosen])
    if op.rest is not None and op.coarse is not None:
        rest = listed(w, op.rest)
        rest = rest[slice(*_share(w, rest))]
        down = w.weights(op, "weights", coarse=True)[-1]
        y = y + F.linear(w.tensor(op.coarse)[:, rest], down[:, rest])
    w.tensor(op.out).copy_(y)


def sum_parts(w: Worker, op: exec.Sum) -> None:
    own = op.work_of.mode is Mode.ROWS
    y = w.tensor(op.x) if own else w.all_parts(op.x).sum(0)
    bias = w.weight(op, "bias")
    if bias is not None:
        y = y + bias
    if op.residual is not None:
        y = y + w.tensor(op.residual)
    w.tensor(op.out).copy_(y)


def all_reduce(w: Worker, op: exec.AllReduce) -> None:
    everything = w.all_rows()
    out = everything.tensor(op.out)
    x = torch.zeros_like(out) if op.x is None else everything.tensor(op.x)
    assert w.call.add_up is not None, "a rank alone"
    out.copy_(w.call.add_up(x.view_as(out)))


def _turned(w: Worker, op: exec.Rope | exec.Append | exec.Attend, x: torch.Tensor) -> torch.Tensor:
    """x as a rotary embedding of the op turns it; as it is where there is none."""
    if op.rotary is None or op.pairing is None:
        return x
    rotary = op.rotary.value.data
    # One row of the tables per token, the same for every head.
    shape = (len(x), *[1] * (x.dim() - 2), rotary)
    (cos,), (sin,) = w.weights(op, "cos"), w.weights(op, "sin")
    index = torch.arange(rotary)
    half = op.pairing.data is spz.Pairing.HALF
    partner = (index + rotary // 2) % rotary if half else index ^ 1
    turned = cos[w.positions].view(shape) * x[..., :rotary]
    turned = turned + sin[w.positions].view(shape) * x[..., partner]
    return torch.cat([turned, x[..., rotary:]], dim=-1)


def rope(w: Worker, op: exec.Rope) -> None:
    w.tensor(op.out).copy_(_turned(w, op, w.tensor(op.x)))


def append(w: Worker, op: exec.Append) -> None:
    w.call.rings[op.slot.value.data].write(
        w.positions, _turned(w, op, w.tensor(op.k)), w.tensor(op.v)
    )


def attend(w: Worker, op: exec.Attend) -> None:
    """Rows: the result. Context: of each head its values (E, padded), then maximum and sum."""
    begin, end = int(_first_seen(op, w.positions[:1])), int(w.positions[-1]) + 1
    if op.work_of.mode is Mode.CONTEXT:
        seen, workers = end - begin, w.call.workers
        begin, end = (begin + seen * i // workers for i in (w.number, w.number + 1))
    positions = torch.arange(begin, end)
    k, v = w.call.rings[op.slot.value.data].read(positions)
    q, out = _turned(w, op, w.tensor(op.q)), w.tensor(op.out)
    group = q.shape[1] // len(k)
    scores = _scores(w, op, q, positions, k.repeat_interleave(group, dim=0))
    v = v.repeat_interleave(group, dim=0)
    if op.work_of.mode is Mode.ROWS:
        sinks = w.weight(op, "sinks")
        if sinks is not None:
            scores = torch.cat([scores, sinks.view(-1, 1, 1).expand(-1, len(q), 1)], dim=-1)
        shares = scores.softmax(-1)[..., : len(positions)]
        out.copy_(torch.einsum("hpj,hje->phe", shares, v))
        return
    size = v.shape[2]
    padded = shape_of(op.out)[2] - exec.PART_ALIGN
    top = scores.amax(-1) if len(positions) else torch.full((q.shape[1], 1), -torch.inf)
    shares = (scores - top[..., None]).exp()
    heads = torch.arange(q.shape[1])
    if op.list is not None:  # groups without a listed head are left alone
        heads = heads[torch.isin(heads // group, listed(w, op.list) // group)]
    out[:, heads, :size] = torch.einsum("hpj,hje->phe", shares, v)[:, heads]
    out[:, heads, padded] = top.T[:, heads]
    out[:, heads, padded + 1] = shares.sum(-1).T[:, heads]


def _first_seen(op: exec.Attend, p: torch.Tensor) -> torch.Tensor:
    """The first position that each of the positions p attends to."""
    begin = torch.zeros_like(p)
    if op.window is not None:
        begin = begin.maximum(p - op.window.value.data + 1)
    if op.chunk is not None:
        begin = begin.maximum(p // op.chunk.value.data * op.chunk.value.data)
    return begin


def _scores(
    w: Worker, op: exec.Attend, q: torch.Tensor, positions: torch.Tensor, k: torch.Tensor
) -> torch.Tensor:
    """(heads, rows, positions), -inf where a row does not attend."""
    scores = op.scale.value.data * torch.einsum("phd,hjd->hpj", q, k)
    if op.softcap is not None:
        cap = op.softcap.value.data
        scores = cap * torch.tanh(scores / cap)
    p, j = w.positions[:, None], positions[None, :]
    slopes = w.weight(op, "slopes")
    if slopes is not None:
        scores = scores + slopes.view(-1, 1, 1) * (j - p)
    return scores.masked_fill((j > p) | (j < _first_seen(op, p)), -torch.inf)


def combine(w: Worker, op: exec.Combine) -> None:
    parts, out = w.all_parts(op.x), w.tensor(op.out)
    padded = parts.shape[-1] - exec.PART_ALIGN
    values, tops, sums = parts[..., : out.shape[-1]], parts[..., padded], parts[..., padded + 1]
    sinks = w.weight(op, "sinks")
    top = tops.amax(0) if sinks is None else tops.amax(0).maximum(sinks)
    factors = (tops - top).exp()
    total = (factors * sums).sum(0)
    if sinks is not None:
        total = total + (sinks - top).exp()
    y = (factors[..., None] * values).sum(0) / total[..., None]
    if op.list is not None:
        heads = listed(w, op.list)
        y = torch.zeros_like(y).index_copy(1, heads, y[:, heads])
    out.copy_(y)


def last(w: Worker, op: exec.Last) -> None:
    w.tensor(op.out).copy_(w.tensor(op.x)[-1:])


def reduce(w: Worker, op: exec.Reduce) -> None:
    out = w.tensor(op.out)
    out.copy_(FOLDS[op.fold.data](w.tensor(op.x)).view_as(out))


def top_k(w: Worker, op: exec.TopK) -> None:
    out = w.tensor(op.out)
    values, indices = w.tensor(op.x).sort(dim=-1, descending=True, stable=True)
    count = out.shape[-1]
    out[..., 0, :] = values[..., :count]
    out[..., 1, :] = indices[..., :count]


def gather(w: Worker, op: exec.Gather) -> None:
    w.tensor(op.out).copy_(w.tensor(op.x).gather(-1, w.tensor(op.index).long()))


def scatter(w: Worker, op: exec.Scatter) -> None:
    index = w.tensor(op.index).long()
    w.tensor(op.out).copy_(w.tensor(op.x).scatter(-1, index, op.value.value.data))


def expert_linear(w: Worker, op: exec.ExpertLinear) -> None:
    (weight,), bias = w.weights(op, "weight"), w.weight(op, "bias")
    units = w.units(op, weight.shape[1])
    experts = w.tensor(op.experts).long()
    y = torch.einsum("tcoi,tci->tco", weight[experts][:, :, units], w.tensor(op.x))
    if bias is not None:
        y = y + bias[experts][:, :, units]
    w.tensor(op.out)[..., units] = y


def map_elements(w: Worker, op: exec.Map) -> None:
    block = op.body.block
    known: dict[SSAValue, torch.Tensor] = {
        arg: w.tensor(value) for arg, value in zip(block.args, op.ins, strict=True)
    }
    for inner in block.ops:
        match inner:
            case exec.MapYield():
                out = w.tensor(op.out)
                # Units are sizes of the second dimension: without one there is nothing to split.
                share = (slice(None), w.units(op, out.shape[1])) if out.dim() > 1 else ...
                out[share] = known[inner.value].expand_as(out)[share]
            case aten.AtenOp():
                known[inner.results[0]] = _scalar(inner, known, w.call.stored.scope)


def _scalar(op: aten.AtenOp, known: Mapping[SSAValue, torch.Tensor], scope: Scope) -> torch.Tensor:
    """An op of a map: every value is a float, truth is any that is not 0."""
    truth: tuple[SSAValue, ...] = ()
    match op:
        case aten.And() | aten.Or() | aten.BitwiseNot() | aten.LogicalNot():
            truth = tuple(op.operands)
        case aten.Where() | aten.WhereScalar() | aten.WhereScalarOther() | aten.WhereScalarSelf():
            truth = (op.operands[0],)
        case aten.MaskedFillScalar():
            truth = (op.operands[1],)
    given = {o: known[o] != 0 if o in truth else known[o] for o in op.operands}
    (result,) = call_aten(op, given, scope)
    return result.float()


def launch(w: Worker, op: exec.Launch) -> None:
    for kernel in op.kernels:
        KERNELS[type(kernel)](w, kernel)


KERNELS: dict[type[Operation], Callable[[Worker, Any], None]] = {
    exec.Embed: embed,
    exec.Ids: ids,
    exec.Norm: norm,
    exec.Quantize: quantize,
    exec.Linear: linear,
    exec.SparseLinear: sparse_linear,
    exec.Activate: activate,
    exec.Mlp: mlp,
    exec.Select: select,
    exec.Neurons: neurons,
    exec.SparseMlp: sparse_mlp,
    exec.Sketch: sketch,
    exec.Refine: refine,
    exec.SparseHead: sparse_head,
    exec.Sum: sum_parts,
    exec.AllReduce: all_reduce,
    exec.Rope: rope,
    exec.Append: append,
    exec.Attend: attend,
    exec.Combine: combine,
    exec.Last: last,
    exec.Reduce: reduce,
    exec.TopK: top_k,
    exec.Gather: gather,
    exec.Scatter: scatter,
    exec.ExpertLinear: expert_linear,
    exec.Map: map_elements,
    exec.Launch: launch,
}
