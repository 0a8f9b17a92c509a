"""The Triton function of a map: generated text, for its body is the model's."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from xdsl.ir import SSAValue

from sparsecomp.codegen.strides import merge, subscript
from sparsecomp.dialects import exec

from .call import STATE, Call, Scope, call, floats, row_stride, sizes, strides
from .policy import ELEMENTS, blocks, next_power, warps
from .scalar import expression


def map_elements(scope: Scope, op: exec.Map) -> list[Call]:
    """One launch over (rows, blocks of the elements of a row)."""
    rows = scope.rows(op.out)
    shape = sizes(op.out, rows)[1:]
    elements = math.prod(shape)
    body = _body(op, list(shape))
    name = f"map_{hashlib.sha256(body.encode()).hexdigest()[:12]}"
    names = [f"x{i}" for i in range(len(op.ins))]
    text = f"@triton.jit\ndef {name}(state, {', '.join(names)}, out, BLOCK: tl.constexpr):\n{body}"
    block = min(ELEMENTS, next_power(elements))
    arguments = [STATE, *(floats(value) for value in op.ins), floats(op.out)]
    grid = (rows, blocks(elements, block))
    return [call(name, arguments, grid, {"BLOCK": block}, warps(block), source=text)]


def _body(op: exec.Map, shape: list[int]) -> str:
    values = [*op.ins, op.out]
    lying = [
        # A dimension of size 1 repeats: its stride is 0.
        [0 if n == 1 else s for n, s in zip(sizes(value, 1)[1:], strides(value), strict=True)]
        for value in values
    ]
    shape, lying, _ = merge(shape, lying)
    lines = [
        "row = tl.program_id(0)",
        "if row >= rows_of(state):",
        "    return",
        "at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
        f"inside = at < {math.prod(shape)}",
        *_counters(shape),
    ]
    for i, (value, steps) in enumerate(zip(op.ins, lying, strict=False)):
        place = f"x{i} + {_place(value, steps)}"
        lines.append(f"a{i} = tl.load({place}, mask=inside, other=0.0)")
    statements, result = _statements(op)
    place = f"out + {_place(op.out, lying[-1])}"
    lines += [*statements, f"tl.store({place}, {result}, mask=inside)"]
    return "".join(f"    {line}\n" for line in lines)


def _counters(shape: Sequence[int]) -> list[str]:
    """`at` taken apart into a counter for each dimension."""
    steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    return [
        f"d{d} = at" + (f" // {step}" if step > 1 else "") + (f" % {size}" if d else "")
        for d, (size, step) in enumerate(zip(shape, steps, strict=True))
    ]


def _place(value: SSAValue, steps: Sequence[int]) -> str:
    stride, within = row_stride(value), subscript(steps)
    start = f"row * {stride} + " if stride else ""
    # Where all elements are one, it is read once for each all the same.
    return start + ("at * 0" if within == "0" else within)


def _statements(op: exec.Map) -> tuple[list[str], str]:
    """The body on names, and the name of its result."""
    block = op.body.block
    names: dict[SSAValue, str] = {arg: f"a{i}" for i, arg in enumerate(block.args)}
    lines: list[str] = []
    where = getattr(op.attributes.get("module"), "data", "")
    for inner in block.ops:
        if isinstance(inner, exec.MapYield):
            return lines, names[inner.value]
        name = f"v{len(lines)}"
        names[inner.results[0]] = name
        lines.append(f"{name} = {expression(inner, [names[o] for o in inner.operands], where)}")
    raise AssertionError("a map without a result")
