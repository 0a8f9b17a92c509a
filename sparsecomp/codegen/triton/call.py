"""What is launched: kernels, their arguments, and how the values of exec lie in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import row_strides, shape_of

FLOAT = 4
ALIGN = 16
"""Bytes that one thread loads at once; where a pointer is a multiple of it, its type says so."""
Constant = int | float | bool | str | tuple[object, ...] | None


@dataclass(frozen=True)
class Value:
    """A buffer or a view: arena, offset of the buffer, start of the view, then `offset` bytes."""

    value: SSAValue
    offset: int = 0


@dataclass(frozen=True)
class Weight:
    """Bytes of a storage."""

    storage: exec.Storage
    offset: int = 0
    """Bytes into the storage."""


@dataclass(frozen=True)
class Keys:
    """The keys of a slot: (groups, ring, key size)."""

    slot: int


@dataclass(frozen=True)
class Values:
    """The values of a slot: (groups, ring, value size)."""

    slot: int


@dataclass(frozen=True)
class State:
    """What changes from step to step, int32: position, rows, full logits, positions that the
    session holds; tokens from 8 on."""


@dataclass(frozen=True)
class Counts:
    """Numbers, int64, that a kernel adds to; each has one program that does."""

    of: exec.Kernel
    size: int


@dataclass(frozen=True)
class Limits:
    """What a selection compares scores with, f32: its threshold, and where there is an upper one
    that. These differ from layer to layer, the kernels do not."""

    of: exec.Select


Operand = Value | Weight | Keys | Values | State | Counts | Limits | None
"""None is a null pointer, of what a kernel does not read."""


@dataclass(frozen=True)
class Kernel:
    """What is compiled once: the key of a binary."""

    function: str
    """Name of the Triton function."""
    pointers: tuple[str, ...]
    """Triton types of its arguments, in order: `*fp32`, or `*fp32:16` of a multiple of 16."""
    constants: tuple[tuple[str, Constant], ...]
    warps: int = 4
    stages: int = 2
    source: str = ""
    """The text of a generated function; others stand in `kernels/`."""


@dataclass(frozen=True)
class Call:
    """One launch. The arguments are pointers alone, in the order of the kernel's."""

    kernel: Kernel
    operands: tuple[Operand, ...]
    grid: tuple[int, int, int]


@dataclass(frozen=True)
class Scope:
    """What is known where a kernel is called."""

    slots: Mapping[int, exec.KVSlot]
    capacity: int
    """Positions that a session holds at most."""
    tile: int
    """Rows of a step at most."""
    cache: str = "*bf16"
    """Triton's type of the KV cache."""

    def ring(self, slot: int) -> int:
        """Positions kept of a slot at most: a tile is written before it is read."""
        window = self.slots[slot].window
        return min(self.capacity, window.value.data + self.tile) if window else self.capacity

    def goes_round(self, slot: int) -> bool:
        """Whether a slot keeps the same number of positions whatever a session holds."""
        return self.ring(slot) < self.capacity

    def rows(self, value: SSAValue) -> int:
        """Rows of a value at most."""
        return self.tile if is_tile(value) else 1


@dataclass(frozen=True)
class Argument:
    """An operand and its type."""

    type: str
    operand: Operand


def is_tile(value: SSAValue) -> bool:
    """Whether a value has as many rows as a step."""
    return shape_of(value)[0] == DYNAMIC_INDEX


def width(value: SSAValue) -> int:
    """Elements of one row."""
    return math.prod(shape_of(value)[1:])


def start(value: SSAValue) -> int:
    """Elements from the start of a buffer, or constant, to the first of a value."""
    op = value.owner
    return start(op.source) + op.start.value.data if isinstance(op, exec.View) else 0


def row_stride(value: SSAValue) -> int:
    """Elements from row to row; 0 where all rows are the same."""
    match value.owner:
        case exec.View() as view:
            return row_stride(view.source)
        case exec.Constant():
            return 0
        case _:
            return width(value)


def strides(value: SSAValue) -> tuple[int, ...]:
    """Elements from one to the next of each dimension after the first."""
    op = value.owner
    if isinstance(op, exec.View):
        return tuple(int(n) for n in op.strides.get_values())
    return row_strides(sizes(value, 1))


def sizes(value: SSAValue, rows: int) -> tuple[int, ...]:
    """The shape of a value with so many rows; a constant has one row for all."""
    shape = shape_of(value)
    return (rows, *(shape if isinstance(value.owner, exec.Constant) else shape[1:]))


def base(value: SSAValue) -> Operation:
    """The buffer or constant behind a value."""
    op = value.owner
    while isinstance(op, exec.View):
        op = op.source.owner
    assert isinstance(op, exec.Buffer | exec.Constant)
    return op


def floats(value: SSAValue, offset: int = 0) -> Argument:
    """A value of floats, `offset` bytes behind its start."""
    if isinstance(constant := base(value), exec.Constant):
        storage = exec.find_storage(constant, constant.storage)
        offset += start(value) * FLOAT
        return Argument(_hinted("*fp32", offset), Weight(storage, offset))
    return Argument(_hinted("*fp32", start(value) * FLOAT + offset), Value(value, offset))


def optional(value: SSAValue | None) -> Argument:
    """A value of floats, or null."""
    return NULL if value is None else floats(value)


def listed(value: SSAValue | None) -> Argument:
    """A list: how many, then indices; null where there is none."""
    if value is None:
        return NO_LIST
    return Argument(_hinted("*i32", start(value) * FLOAT), Value(value))


def weights(op: Operation, name: str, offset: int = 0) -> Argument:
    """The storage that a property names, `offset` bytes in it; null where there is none."""
    symbol = op.properties.get(name)
    if symbol is None:
        return NULL
    storage = exec.find_storage(op, symbol)  # type: ignore[arg-type]
    kind = {32: "*fp32", 16: "*bf16"}.get(storage.bits, "*u8")
    return Argument(_hinted(kind, offset), Weight(storage, offset))


def counts(of: exec.Kernel, size: int) -> Argument:
    """So many counters of a kernel's own."""
    return Argument(f"*i64:{ALIGN}", Counts(of, size))


def limits(of: exec.Select) -> Argument:
    """What a selection compares scores with, if it does; else null."""
    return NULL if of.threshold is None else Argument(f"*fp32:{ALIGN}", Limits(of))


STATE = Argument("*i32:16", State())
NULL = Argument("*fp32:16", None)
NO_LIST = Argument("*i32:16", None)
NO_COUNTS = Argument("*i64:16", None)


def call(
    function: str,
    arguments: list[Argument],
    grid: tuple[int, ...],
    constants: Mapping[str, Constant],
    warps: int = 4,
    stages: int = 2,
    source: str = "",
) -> Call:
    """A launch of a function."""
    kernel = Kernel(
        function, tuple(a.type for a in arguments), tuple(constants.items()), warps, stages, source
    )
    x, y, z = (*grid, 1, 1)[:3]
    return Call(kernel, tuple(a.operand for a in arguments), (x, y, z))


def _hinted(type: str, offset: int) -> str:
    return f"{type}:{ALIGN}" if offset % ALIGN == 0 else type
