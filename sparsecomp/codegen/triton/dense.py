"""The kernels of ops that read all of their weights, but for attention's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Index, Layout, shape_of

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
    is_tile,
    optional,
    row_stride,
    weights,
    width,
)
from .chosen import Selections
from .factors import norm_of, normed, row_and_norm
from .maps import map_elements
from .matrix import matrix, neurons_of
from .parts import added, mlp_block, parts
from .policy import (
    ELEMENTS,
    LEAST_DOT,
    PROGRAMS,
    TILE,
    TILE_ROWS,
    Tile,
    blocks,
    next_power,
    row_block,
    warps,
)

TILE_OUTPUTS, TILE_INPUTS = 64, 32
"""Of a program that multiplies many rows."""


def _precision(storage: exec.Storage) -> str:
    """Of products with many rows: what the weights are rounded to says how exact they need be."""
    return "tf32x3" if storage.bits == 32 else "tf32"


def embed(scope: Scope, op: exec.Embed) -> list[Call]:
    table = exec.find_storage(op, op.table)
    size = math.prod(table.dims[1:])
    columns = row_block(size, 1024)
    constants: dict[str, Constant] = {
        "ROWS": matrix(table),
        "OUT_STRIDE": row_stride(op.out),
        "TOKENS": op.index.data is Index.TOKENS,
        "BLOCK": columns,
    }
    arguments = [STATE, weights(op, "table"), floats(op.out)]
    grid = (scope.rows(op.out), blocks(size, columns))
    return [call("embed", arguments, grid, constants, warps(columns))]


def ids(scope: Scope, op: exec.Ids) -> list[Call]:
    constants = {"OUT_STRIDE": row_stride(op.out), "TOKENS": op.index.data is Index.TOKENS}
    return [call("ids", [STATE, floats(op.out)], (scope.rows(op.out),), constants, 1)]


def norm(scope: Scope, op: exec.Norm) -> list[Call]:
    *heads, size = shape_of(op.x)[1:]
    constants: dict[str, Constant] = {
        "NORM": norm_of(op),
        "X_STRIDE": row_stride(op.x),
        "OUT_STRIDE": row_stride(op.out),
    }
    arguments = [STATE, floats(op.x), weights(op, "weight"), weights(op, "bias"), floats(op.out)]
    grid = (scope.rows(op.x), math.prod(heads))
    return [call("norm", arguments, grid, constants, warps(size, most=8))]


def linear(scope: Scope, op: exec.Linear) -> list[Call]:
    if is_tile(op.x):
        return _linear_tile(scope, op)
    by_columns = exec.find_storage(op, op.weight).layout.data is Layout.COLUMNS
    return _linear_columns(op) if by_columns else _linear_rows(op)


def _linear_rows(op: exec.Linear) -> list[Call]:
    """Of one row, or the few rows of one token."""
    outputs, inputs = exec.find_storage(op, op.weight).dims
    block_k = row_block(inputs, 1024)
    block_n = max(1, min(TILE // block_k, next_power(outputs // PROGRAMS)))
    return [scored_rows(op, Selections(), Tile(block_n, block_k, warps(2 * block_n * block_k)))]


def scored_rows(op: exec.Linear, chosen: Selections, tile: Tile) -> Call:
    """Products with rows of weights, and what is chosen by them."""
    storage = exec.find_storage(op, op.weight)
    outputs, inputs = storage.dims
    constants: dict[str, Constant] = {
        "FIRST": 0,
        "NORM": normed(op.x),
        "ROWS": matrix(storage),
        "OUTPUTS": outputs,
        "BIAS": op.bias is not None,
        "RESIDUAL": op.residual is not None,
        **chosen.constants,
        "BLOCK_N": tile.rows,
        "BLOCK_K": tile.columns,
    }
    given = [weights(op, "weight"), weights(op, "bias"), optional(op.residual)]
    arguments = [*row_and_norm(op.x), *given, chosen.scores(op.out), *chosen.arguments]
    grid = (blocks(outputs, tile.rows), width(op.x) // inputs)
    return call("linear_rows", arguments, grid, constants, tile.warps)


def _linear_columns(op: exec.Linear) -> list[Call]:
    """The same of a weight that is stored by columns."""
    storage = exec.find_storage(op, op.weight)
    outputs, inputs = storage.dims
    block_n = 64  # a line from each row, of quantised ones half
    block_k = min(TILE // block_n, next_power(inputs))
    constants: dict[str, Constant] = {
        "FIRST": 0,
        "NORM": normed(op.x),
        "ROWS": matrix(storage),
        "INPUTS": inputs,
        "BIAS": op.bias is not None,
        "RESIDUAL": op.residual is not None,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
    }
    given = [weights(op, "weight"), weights(op, "bias"), optional(op.residual)]
    arguments = [*row_and_norm(op.x), *given, floats(op.out)]
    grid = (blocks(outputs, block_n), width(op.x) // inputs)
    return [call("linear_columns", arguments, grid, constants, warps(2 * block_n * block_k))]


def _linear_tile(scope: Scope, op: exec.Linear) -> list[Call]:
    storage = exec.find_storage(op, op.weight)
    outputs, inputs = storage.dims
    rows = width(op.x) // inputs  # of each token, one behind the other
    columns = storage.layout.data is Layout.COLUMNS
    given = [weights(op, "weight"), weights(op, "bias"), optional(op.residual)]
    arguments = [STATE, floats(op.x), *given, floats(op.out)]
    sizes: dict[str, Constant] = {
        "INPUTS": inputs,
        "OUTPUTS": outputs,
        "EACH": rows,
        "X_STRIDE": inputs if rows > 1 else row_stride(op.x),
        "RESIDUAL_STRIDE": 0 if op.residual is None else row_stride(op.residual) // rows,
        "OUT_STRIDE": outputs if rows > 1 else row_stride(op.out),
        "ROWS": matrix(storage),
        "COLUMNS": columns,
        "BIAS": op.bias is not None,
        "RESIDUAL": op.residual is not None,
    }
    return [_tiled("linear_tile", storage, arguments, sizes, scope.tile * rows, outputs)]


def _tiled(
    name: str,
    storage: exec.Storage,
    arguments: list[Argument],
    sizes: dict[str, Constant],
    rows: int,
    outputs: int,
) -> Call:
    """A product of many rows."""
    block_m = max(LEAST_DOT, min(TILE_ROWS, next_power(rows)))
    block_k = row_block(1) if storage.quantised else TILE_INPUTS
    wide = 8 if storage.quantised else 4  # widening takes registers
    tile: dict[str, Constant] = {
        "PRECISION": _precision(storage),
        "BLOCK_M": block_m,
        "BLOCK_N": TILE_OUTPUTS,
        "BLOCK_K": block_k,
    }
    grid = (blocks(rows, block_m), blocks(outputs, TILE_OUTPUTS))
    return call(name, arguments, grid, sizes | tile, wide, stages=3)


def activate(scope: Scope, op: exec.Activate) -> list[Call]:
    size = width(op.x)
    block = min(ELEMENTS, next_power(size))
    constants: dict[str, Constant] = {
        "WIDTH": size,
        "X_STRIDE": row_stride(op.x),
        "UP_STRIDE": 0 if op.up is None else row_stride(op.up),
        "OUT_STRIDE": row_stride(op.out),
        "UP": op.up is not None,
        "ACT": str(op.act.data),
        "BLOCK": block,
    }
    arguments = [STATE, floats(op.x), optional(op.up), floats(op.out)]
    grid = (scope.rows(op.x), blocks(size, block))
    return [call("activate_rows", arguments, grid, constants, warps(block))]


def mlp(scope: Scope, op: exec.Mlp) -> list[Call]:
    return _mlp_tile(scope, op) if is_tile(op.x) else _mlp_row(op)


def _mlp_row(op: exec.Mlp) -> list[Call]:
    storage = exec.find_storage(op, op.weights)
    neurons, inputs, outputs = storage.dims
    block_k, block_d = row_block(next_power(inputs)), row_block(next_power(outputs))
    block_n, programs = mlp_block(storage), parts(op)
    constants: dict[str, Constant] = {
        "NORM": normed(op.x),
        "NEURONS": neurons,
        **_rows(storage),
        "DOWN": neurons_of(storage)[-1],
        **_acting(op),
        "PARTS": programs,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "BLOCK_D": block_d,
    }
    arguments = [*row_and_norm(op.x), *_mlp_weights(op), floats(op.out)]
    wide = warps(block_n * max(block_k, block_d), most=8)
    return [call("mlp_neurons", arguments, (programs,), constants, wide)]


def _rows(storage: exec.Storage) -> dict[str, Constant]:
    *gate, up, _ = neurons_of(storage)
    return {"GATE": gate[0] if gate else None, "UP": up}


def _acting(op: exec.Mlp) -> dict[str, Constant]:
    return {
        "ACT": str(op.act.data),
        "GATE_BIAS": op.gate_bias is not None,
        "UP_BIAS": op.up_bias is not None,
    }


def _mlp_weights(op: exec.Mlp) -> list[Argument]:
    return [weights(op, name) for name in ("weights", "gate_bias", "up_bias")]


def _mlp_tile(scope: Scope, op: exec.Mlp) -> list[Call]:
    """Many rows: the values of all neurons behind the result, then their sum."""
    storage = exec.find_storage(op, op.weights)
    neurons, _, outputs = storage.dims
    hidden = floats(op.out, scope.tile * outputs * FLOAT)
    first = _tiled(
        "mlp_hidden",
        storage,
        [STATE, floats(op.x), *_mlp_weights(op), hidden],
        {
            "NEURONS": neurons,
            **_rows(storage),
            "X_STRIDE": row_stride(op.x),
            **_acting(op),
        },
        scope.tile,
        neurons,
    )
    second = _tiled(
        "linear_tile",
        storage,
        [STATE, hidden, weights(op, "weights"), NULL, NULL, floats(op.out)],
        {
            "INPUTS": neurons,
            "OUTPUTS": outputs,
            "EACH": 1,
            "X_STRIDE": neurons,
            "RESIDUAL_STRIDE": 0,
            "OUT_STRIDE": row_stride(op.out),
            "ROWS": neurons_of(storage)[-1],
            "COLUMNS": True,
            "BIAS": False,
            "RESIDUAL": False,
        },
        scope.tile,
        outputs,
    )
    return [first, second]


def sum_parts(scope: Scope, op: exec.Sum) -> list[Call]:
    size, copies = width(op.out), added(op.x)
    columns = min(next_power(size), 32 if copies > 1 else 1024)
    block_p = min(32, next_power(copies))
    constants: dict[str, Constant] = {
        "WIDTH": size,
        "X_STRIDE": row_stride(op.x),
        "RESIDUAL_STRIDE": 0 if op.residual is None else row_stride(op.residual),
        "OUT_STRIDE": row_stride(op.out),
        "PARTS": copies,
        "PART": size,
        "RESIDUAL": op.residual is not None,
        "BIAS": op.bias is not None,
        "BLOCK_P": block_p,
        "BLOCK": columns,
    }
    arguments = [
        STATE, floats(op.x), optional(op.residual), weights(op, "bias"), floats(op.out)
    ]  # fmt: skip
    grid = (scope.rows(op.x), blocks(size, columns))
    return [call("sum_parts", arguments, grid, constants, warps(block_p * columns))]


def last(scope: Scope, op: exec.Last) -> list[Call]:
    size = width(op.out)
    columns = min(1024, next_power(size))
    constants = {"WIDTH": size, "X_STRIDE": row_stride(op.x), "BLOCK": columns}
    arguments = [STATE, floats(op.x), floats(op.out)]
    return [call("last", arguments, (blocks(size, columns),), constants, warps(columns))]


def reduce(scope: Scope, op: exec.Reduce) -> list[Call]:
    *before, size = shape_of(op.x)[1:]
    constants: dict[str, Constant] = {
        "WIDTH": size,
        "X_STRIDE": row_stride(op.x),
        "OUT_STRIDE": row_stride(op.out),
        "FOLD": str(op.fold.data),
        "BLOCK": next_power(size),
    }
    grid = (scope.rows(op.x), math.prod(before))
    arguments = [STATE, floats(op.x), floats(op.out)]
    return [call("reduce", arguments, grid, constants, warps(size, most=8))]


CALLS: dict[type[Operation], Callable[[Scope, Any], list[Call]]] = {
    exec.Embed: embed,
    exec.Ids: ids,
    exec.Norm: norm,
    exec.Linear: linear,
    exec.Activate: activate,
    exec.Mlp: mlp,
    exec.Sum: sum_parts,
    exec.Last: last,
    exec.Reduce: reduce,
    exec.Map: map_elements,
}
