"""Which kernels the sparse ops of exec are, and how they are configured.

How much is listed is known on the device alone: grids are for what is expected, and programs take
what there is in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdsl.ir import Operation

from sparsecomp import sketches
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import shape_of

from .call import (
    FLOAT,
    NULL,
    STATE,
    Argument,
    Call,
    Constant,
    Scope,
    call,
    floats,
    listed,
    weights,
    width,
)
from .factors import normed, row_and_norm
from .matrix import Rows, matrix, neurons_of
from .parts import shares, sum_tile, values_behind
from .policy import PROGRAMS, TILE, blocks, next_power, row_block, warps

NO_LIST = listed(None)
SELECT_BLOCK = 1024
LARGE_GROUP = 16384
"""Units whose keys the registers of one program hold with ease."""
RUN = 4096
"""Units that it looks at at once where there are more."""


def _row_tile(rows: float, width: int) -> tuple[int, int]:
    """Block sizes for products with about so many rows, so that all programs have some."""
    block_n = next((n for n in (4, 2) if rows >= 2 * n * PROGRAMS), 1)
    return block_n, row_block(width, TILE // block_n)


def select(scope: Scope, op: exec.Select) -> list[Call]:
    x, scales, out = floats(op.x), weights(op, "scales"), listed(op.out)
    units = width(op.x)
    scored: dict[str, Constant] = {
        "UNITS": units,
        "MAGNITUDE": op.magnitude is not None,
        "SCALED": op.scales is not None,
    }
    if op.threshold is None:
        return [_select_best(op, units, [x, scales, STATE, out], scored)]
    assert op.or_all is None, "a head is chosen from by count"
    block = min(SELECT_BLOCK, next_power(units))
    scored |= {
        "THRESHOLD": op.threshold.value.data,
        "BELOW": None if op.below is None else op.below.value.data,
        "BLOCK": block,
    }
    return [call("select_above", [x, scales, out], (blocks(units, block),), scored)]


def _select_best(
    op: exec.Select, units: int, arguments: list[Argument], scored: dict[str, Constant]
) -> Call:
    assert op.count is not None and op.group is not None
    group = min(op.group.value.data, units)
    count = min(op.count.value.data, group)
    scored |= {"COUNT": count, "OR_ALL": op.or_all is not None}
    # What may be above the floor has room behind the list.
    if group == units > LARGE_GROUP and (blocks(units, RUN) + 1) * count <= units:
        scored |= {"BLOCK": RUN, "CHUNK": SELECT_BLOCK}
        return call("select_few", arguments, (1,), scored, warps=16)
    block = next_power(group)
    scored |= {"GROUP": group, "BLOCK": block}
    wide = min(16, max(1, block // 256))
    return call("select_best", arguments, (blocks(units, group),), scored, wide)


def neuron_values(
    op: exec.Neurons | exec.SparseMlp,
    rows: tuple[Rows, ...],
    out: Argument,
    *,
    expected: float,
    chosen: Argument = NO_LIST,
    gates: Argument = NULL,
) -> Call:
    """The values of neurons, all or those of a list; `rows` of gate and up, as far as needed."""
    storage = exec.find_storage(op, op.weights)
    gated, gates_known = op.gated is not None, gates.operand is not None
    gate = rows[0] if gated and not gates_known else None
    up = None if isinstance(op, exec.Neurons) and op.gate_only is not None else rows[-1]
    block_n, block_k = _row_tile(expected, storage.dims[1])
    programs = blocks(storage.dims[0], block_n)
    if chosen.operand is not None:
        programs = min(programs, 4 * PROGRAMS)
    z, factors = NULL, None
    if isinstance(op, exec.Neurons) and op.z is not None and op.correction is not None:
        z, factors = floats(op.z), matrix(exec.find_storage(op, op.correction))
    constants: dict[str, Constant] = {
        "NORM": normed(op.x),
        "NEURONS": storage.dims[0],
        "LISTED": chosen.operand is not None,
        "GATE": gate,
        "UP": up,
        "FACTORS": factors,
        "GATES_KNOWN": gates_known,
        "GATE_BIAS": op.gate_bias is not None,
        "UP_BIAS": op.up_bias is not None,
        "ACT": str(op.act.data),
        "PROGRAMS": programs,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "BLOCK_Z": row_block(factors.width, 1024) if factors else 64,
    }
    given = [weights(op, name) for name in ("weights", "gate_bias", "up_bias")]
    arguments = [*row_and_norm(op.x), chosen, gates, *given, z, weights(op, "correction"), out]
    return call("neuron_values", arguments, (programs,), constants, warps(block_n * block_k))


def all_neurons(scope: Scope, op: exec.Neurons) -> list[Call]:
    storage = exec.find_storage(op, op.weights)
    rows = neurons_of(storage)[:-1]
    if op.coarse is not None:
        rows = tuple(row.coarse for row in rows)
    return [neuron_values(op, rows, floats(op.out), expected=storage.dims[0])]


def _sum_listed(
    op: exec.SparseMlp | exec.SparseLinear,
    values: Argument,
    chosen: Argument,
    weight: Argument,
    rows: Rows,
    size: int,
    coarse: Argument = NULL,
    rest: Argument = NO_LIST,
) -> Call:
    block_n, block_d = sum_tile(rows.width)
    shared = shares(op)
    constants: dict[str, Constant] = {
        "ROWS": rows,
        "COARSE": None if rest.operand is None else rows.coarse,
        "SIZE": size,
        "SHARES": shared,
        "BLOCK_N": block_n,
        "BLOCK_D": block_d,
    }
    arguments = [values, chosen, coarse, rest, weight, floats(op.out)]
    grid = (blocks(rows.width, block_d), shared)
    return call("sum_listed", arguments, grid, constants, warps(block_n * block_d))


def sparse_mlp(scope: Scope, op: exec.SparseMlp) -> list[Call]:
    storage = exec.find_storage(op, op.weights)
    *inputs, down = neurons_of(storage)
    chosen = listed(op.list)
    found = []
    values = NULL if op.values is None else floats(op.values)
    if values_behind(op):
        gates, values = values, floats(op.out, shares(op) * width(op.out) * FLOAT)
        expected = op.density.value.data * storage.dims[0]
        found.append(
            neuron_values(op, tuple(inputs), values, expected=expected, chosen=chosen, gates=gates)
        )
    more = () if op.rest is None or op.coarse is None else (floats(op.coarse), listed(op.rest))
    weight = weights(op, "weights")
    return [*found, _sum_listed(op, values, chosen, weight, down, 1, *more)]


def sparse_linear(scope: Scope, op: exec.SparseLinear) -> list[Call]:
    storage = exec.find_storage(op, op.weight)
    (outputs, inputs), count = storage.dims, op.blocks.value.data
    rows, chosen, weight = matrix(storage), listed(op.list), weights(op, "weight")
    if op.side.data is spz.Side.INPUTS:
        return [_sum_listed(op, floats(op.x), chosen, weight, rows, inputs // count)]
    size = outputs // count
    block_n, block_k = _row_tile(op.density.value.data * outputs, inputs)
    constants: dict[str, Constant] = {
        "FIRST": 0,
        "NORM": normed(op.x),
        "ROWS": rows,
        "SIZE": size,
        "ROOM": next_power(count),
        "BIAS": op.bias is not None,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
    }
    arguments = [*row_and_norm(op.x), chosen, weight, weights(op, "bias"), floats(op.out)]
    grid = (blocks(size, block_n) * count,)
    return [call("linear_listed", arguments, grid, constants, warps(block_n * block_k))]


def sketch(scope: Scope, op: exec.Sketch) -> list[Call]:
    units, axes = shape_of(op.out)[1], shape_of(op.x)[1] - 1
    block = 64
    constants: dict[str, Constant] = {
        "UNITS": units,
        "AXES": axes,
        "LOT": sketches.LANES,
        "FINE": sketches.FINE,
        "GROUP": sketches.GROUP,
        "PADDED": sketches.padded(axes),
        "BYTES": sketches.LANES * sketches.row_bytes(axes),
        "BLOCK": block,
    }
    arguments = [floats(op.x), weights(op, "rows"), floats(op.out)]
    return [call("sketch_rows", arguments, (blocks(units, block),), constants)]


def sparse_head(scope: Scope, op: exec.SparseHead) -> list[Call]:
    storage = exec.find_storage(op, op.weight)
    units, inputs = storage.dims
    expected = op.density.value.data * units
    block_n, block_k = _row_tile(expected, inputs)
    programs = min(4 * PROGRAMS, blocks(units, block_n))
    constants: dict[str, Constant] = {
        "NORM": normed(op.x),
        "ROWS": matrix(storage),
        "UNITS": units,
        "OFFSET": op.offset.value.data,
        "BIAS": op.bias is not None,
        "PROGRAMS": programs,
        "BLOCK": 256,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
    }
    arguments = [
        *row_and_norm(op.x), listed(op.list), floats(op.scores), weights(op, "weight"),
        weights(op, "bias"), floats(op.out),
    ]  # fmt: skip
    return [call("head_listed", arguments, (programs,), constants, warps(block_n * block_k))]


CALLS: dict[type[Operation], Callable[[Scope, Any], list[Call]]] = {
    exec.Select: select,
    exec.Neurons: all_neurons,
    exec.SparseMlp: sparse_mlp,
    exec.SparseLinear: sparse_linear,
    exec.Sketch: sketch,
    exec.SparseHead: sparse_head,
}
