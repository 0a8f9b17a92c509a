"""Which kernels the sparse ops of exec are, and how they are configured.

How much is listed is known on the device alone: grids are for what is expected, and programs take
what there is in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xdsl.ir import Operation

from sparsecomp import sketches
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import shape_of

from .call import (
    FLOAT,
    NO_COUNTS,
    NULL,
    STATE,
    Argument,
    Call,
    Constant,
    Scope,
    call,
    counts,
    floats,
    listed,
    optional,
    weights,
    width,
)
from .chosen import Selections, selection_arguments
from .factors import normed, row_and_norm
from .lists import Choice, choice, lying
from .matrix import Rows, inputs_of, matrix, neurons_of
from .parts import shares, sum_tile, values_behind
from .policy import PROGRAMS, Tile, blocks, next_power, row_block, row_tile, warps

LARGE_GROUP = 8192
"""Units whose keys the registers of one program hold with ease."""
RUN = 4096
"""Units that it looks at at once where there are more."""
CHUNK = 1024
"""Of those that may be among the best."""


def select(scope: Scope, op: exec.Select) -> list[Call]:
    arguments = [floats(op.x), STATE, *selection_arguments(op)]
    units, chosen = width(op.x), choice(op)
    if (chosen.best and chosen.group == units > LARGE_GROUP) or op.probability is not None:
        return [_select_best(op, arguments, units, chosen)]
    block = next_power(chosen.group)
    constants: dict[str, Constant] = {"UNITS": units, "CHOICE": chosen, "BLOCK": block}
    wide = min(16, max(1, block // 256))
    return [call("select", arguments, (blocks(units, chosen.group),), constants, wide)]


def _select_best(op: exec.Select, arguments: list[Argument], units: int, chosen: Choice) -> Call:
    share = None if op.probability is None else math.log(op.probability.value.data)
    constants: dict[str, Constant] = {
        "UNITS": units,
        "COUNT": chosen.best,
        "LOG_SHARE": share,
        # What may be above the floor has room behind the list.
        "FEW": (blocks(units, RUN) + 1) * chosen.best <= units,
        "OR_ALL": chosen.or_all,
        "MAGNITUDE": chosen.magnitude,
        "SCALED": chosen.scaled,
        "BLOCK": RUN,
        "CHUNK": CHUNK,
    }
    return call("select_best", arguments, (1,), constants, warps=16)


def _neuron_values(
    op: exec.Neurons | exec.SparseMlp,
    rows: tuple[Rows, ...],
    out: Argument,
    tile: Tile,
    chosen: Selections,
    gates: Argument = NULL,
) -> Call:
    """The values of neurons: all, and what is chosen by them, or those of a sparse MLP's list.

    `rows` of gate and up, as far as they are needed.
    """
    gates_known = gates.operand is not None
    z, factors = NULL, None
    named, counted = None, NO_COUNTS
    if isinstance(op, exec.SparseMlp):
        neurons, *_ = exec.find_storage(op, op.weights).dims
        named, programs = op.list, min(blocks(neurons, tile.rows), 4 * PROGRAMS)
        counted = NO_COUNTS if gates_known else counts(op, programs)
    else:
        neurons = width(op.out)
        programs = blocks(neurons, tile.rows)
    if isinstance(op, exec.Neurons) and op.z is not None and op.correction is not None:
        z, factors = floats(op.z), matrix(exec.find_storage(op, op.correction))
    constants: dict[str, Constant] = {
        "NORM": normed(op.x),
        "NEURONS": neurons,
        "LIST": lying(named),
        "GATE": rows[0] if op.gated is not None and not gates_known else None,
        "UP": None if isinstance(op, exec.Neurons) and op.gate_only is not None else rows[-1],
        "FACTORS": factors,
        "GATES_KNOWN": gates_known,
        "GATE_BIAS": op.gate_bias is not None,
        "UP_BIAS": op.up_bias is not None,
        "ACT": str(op.act.data),
        "COUNTED": counted.operand is not None,
        **chosen.constants,
        "PROGRAMS": programs,
        "BLOCK_N": tile.rows,
        "BLOCK_K": tile.columns,
        "BLOCK_Z": row_block(factors.width, 1024) if factors else 64,
    }
    given = [weights(op, name) for name in ("weights", "gate_bias", "up_bias")]
    given += [z, weights(op, "correction"), out, counted]
    arguments = [*row_and_norm(op.x), listed(named), gates, *given, *chosen.arguments]
    return call("neuron_values", arguments, (programs,), constants, tile.warps)


def all_neurons(scope: Scope, op: exec.Neurons) -> list[Call]:
    _, inputs, *_ = exec.find_storage(op, op.weights).dims
    return [scored_neurons(op, Selections(), row_tile(width(op.out), inputs))]


def scored_neurons(op: exec.Neurons, chosen: Selections, tile: Tile) -> Call:
    """The values of all neurons, and what is chosen by them."""
    rows = inputs_of(exec.find_storage(op, op.weights))
    if op.coarse is not None:
        rows = tuple(row.coarse for row in rows)
    return _neuron_values(op, rows, chosen.scores(op.out), tile, chosen)


def _sum_listed(
    op: exec.SparseMlp | exec.SparseLinear,
    values: Argument,
    weight: Argument,
    rows: Rows,
    size: int,
) -> Call:
    """The sum of the rows of a weight that a list names, each times its value; an entry stands for
    `size` of them."""
    rest = op.rest if isinstance(op, exec.SparseMlp) else None
    coarse = op.coarse if isinstance(op, exec.SparseMlp) else None
    block_n, block_d = sum_tile(rows.width)
    shared = shares(op)
    constants: dict[str, Constant] = {
        "ROWS": rows,
        "COARSE": None if rest is None else rows.coarse,
        "SIZE": size,
        "LIST": lying(op.list),
        "REST": lying(rest),
        "SHARES": shared,
        "BLOCK_N": block_n,
        "BLOCK_D": block_d,
    }
    lists = [listed(op.list), optional(coarse), listed(rest)]
    arguments = [values, *lists, weight, floats(op.out)]
    grid = (blocks(rows.width, block_d), shared)
    return call("sum_listed", arguments, grid, constants, warps(block_n * block_d))


def sparse_mlp(scope: Scope, op: exec.SparseMlp) -> list[Call]:
    storage = exec.find_storage(op, op.weights)
    *rows, down = neurons_of(storage)
    neurons, inputs, outputs = storage.dims
    found, values = [], optional(op.values)
    if values_behind(op):
        gates, values = values, floats(op.out, shares(op) * outputs * FLOAT)
        tile = row_tile(op.density.value.data * neurons, inputs)
        found.append(_neuron_values(op, tuple(rows), values, tile, Selections(), gates))
    return [*found, _sum_listed(op, values, weights(op, "weights"), down, 1)]


def sparse_linear(scope: Scope, op: exec.SparseLinear) -> list[Call]:
    storage = exec.find_storage(op, op.weight)
    (outputs, inputs), count = storage.dims, op.blocks.value.data
    rows, weight = matrix(storage), weights(op, "weight")
    if op.side.data is spz.Side.INPUTS:
        return [_sum_listed(op, floats(op.x), weight, rows, inputs // count)]
    size = outputs // count
    tile = row_tile(op.density.value.data * outputs, inputs)
    constants: dict[str, Constant] = {
        "FIRST": 0,
        "NORM": normed(op.x),
        "ROWS": rows,
        "SIZE": size,
        "LIST": lying(op.list),
        "BIAS": op.bias is not None,
        "BLOCK_N": tile.rows,
        "BLOCK_K": tile.columns,
    }
    arguments = [
        *row_and_norm(op.x), listed(op.list), weight, weights(op, "bias"), floats(op.out)
    ]  # fmt: skip
    grid = (blocks(size, tile.rows) * count,)
    return [call("linear_listed", arguments, grid, constants, tile.warps)]


def sketch(scope: Scope, op: exec.Sketch) -> list[Call]:
    units, axes = shape_of(op.out)[1], shape_of(op.x)[1] - 1
    block, bits = 64, exec.find_storage(op, op.rows).bits
    constants: dict[str, Constant] = {
        "UNITS": units,
        "AXES": axes,
        "LOT": sketches.LANES,
        "FINE": sketches.FINE,
        "GROUP": sketches.GROUP,
        "PADDED": sketches.padded(axes, bits),
        "BITS": bits,
        "TABLE": sketches.TABLE_BYTES,
        "BYTES": sketches.LANES * sketches.row_bytes(axes, bits),
        "BLOCK": block,
    }
    arguments = [floats(op.x), weights(op, "rows"), floats(op.out)]
    return [call("sketch_rows", arguments, (blocks(units, block),), constants)]


def refine(scope: Scope, op: exec.Refine) -> list[Call]:
    units, axes = shape_of(op.out)[1], shape_of(op.x)[1] - 1
    block = 32
    programs = min(4 * PROGRAMS, blocks(units, block))
    constants: dict[str, Constant] = {
        "UNITS": units,
        "AXES": axes,
        "FINE": sketches.FINE,
        "LINES": len(sketches.refined_groups(axes)),
        "LINE": sketches.LINE_BYTES,
        "LINE_AXES": sketches.LINE_AXES,
        "STREAM": sketches.STREAM,
        "BITS": sketches.BITS,
        "TABLE": sketches.TABLE_BYTES,
        "OFFSET": op.offset.value.data,
        "LIST": lying(op.list),
        "PROGRAMS": programs,
        "BLOCK": 256,
        "BLOCK_N": block,
    }
    arguments = [
        floats(op.x), listed(op.list), floats(op.scores), weights(op, "rows"), floats(op.out)
    ]  # fmt: skip
    return [call("refine_listed", arguments, (programs,), constants)]


def sparse_head(scope: Scope, op: exec.SparseHead) -> list[Call]:
    storage = exec.find_storage(op, op.weight)
    units, inputs = storage.dims
    expected = op.density.value.data * units
    tile = row_tile(expected, inputs)
    programs = min(4 * PROGRAMS, blocks(units, tile.rows))
    constants: dict[str, Constant] = {
        "NORM": normed(op.x),
        "ROWS": matrix(storage),
        "UNITS": units,
        "OFFSET": op.offset.value.data,
        "LIST": lying(op.list),
        "BIAS": op.bias is not None,
        "PROGRAMS": programs,
        "BLOCK": 256,
        "BLOCK_N": tile.rows,
        "BLOCK_K": tile.columns,
    }
    arguments = [
        *row_and_norm(op.x), listed(op.list), floats(op.scores), weights(op, "weight"),
        weights(op, "bias"), floats(op.out),
    ]  # fmt: skip
    return [call("head_listed", arguments, (programs,), constants, tile.warps)]


CALLS: dict[type[Operation], Callable[[Scope, Any], list[Call]]] = {
    exec.Select: select,
    exec.Neurons: all_neurons,
    exec.SparseMlp: sparse_mlp,
    exec.SparseLinear: sparse_linear,
    exec.Sketch: sketch,
    exec.Refine: refine,
    exec.SparseHead: sparse_head,
}
