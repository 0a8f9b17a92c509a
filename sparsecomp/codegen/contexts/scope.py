"""What is known where a kernel is called, and how operands, weights and shares are spelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import DYNAMIC_INDEX, BFloat16Type, Float32Type, IntegerType
from xdsl.ir import Attribute, Operation, SSAValue

from sparsecomp.codegen.counters import Counters
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Layout, Mode, shape_of


@dataclass(frozen=True)
class Pointer:
    """Where an operand's first row starts, and floats from row to row (0: one row for all)."""

    text: str
    ld: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


def integer(attribute: Any) -> int:
    """The value of an integer attribute; 0 where there is none."""
    return 0 if attribute is None else int(attribute.value.data)


def element(storage: Attribute) -> str:
    """The native name of a storage's element type."""
    match storage:
        case Float32Type():
            return "float"
        case BFloat16Type():
            return "bf16"
        case IntegerType():
            return f"int{storage.width.data}"
        case _:
            raise ValueError(f"no kernel reads weights of {storage}")


@dataclass(frozen=True)
class Scope:
    """What is known where a kernel is called: its operands by value, the cache, the counters."""

    pointers: Mapping[SSAValue, Pointer]
    slots: Mapping[int, exec.KVSlot]
    counted: Counters

    def floats(self, op: Operation, key: str) -> str:
        """A weight of an op that lies as floats, or nullptr."""
        symbol = op.properties.get(key)
        if symbol is None:
            return "nullptr"
        return floats(exec.find_storage(op, symbol))  # type: ignore[arg-type]

    def rows(self, value: SSAValue) -> str:
        return "rows" if shape_of(value)[0] == DYNAMIC_INDEX else "1"

    def units(self, op: exec.Kernel, units: int) -> str:
        """The units of this worker: `first, end`."""
        work = op.work_of
        if work.mode in (Mode.QUEUE, Mode.IDLE):
            return "turns.first, turns.end"
        if work.mode is not Mode.SPLIT:
            return f"0, {units}"
        first, end = share(work.bounds)
        return f"{first}, {end}"

    def parts(self, value: SSAValue) -> str:
        """A partial result in worker 0's arena."""
        return self.pointers[value].text.replace("own", "all")


def floats(storage: exec.Storage) -> str:
    return f"floats(w, {integer(storage.offset)})"


def matrix(storage: exec.Storage) -> dict[str, Any]:
    """A storage as its kernels see it: as rows of its last dimension."""
    by_columns = storage.layout.data is Layout.COLUMNS
    dims = storage.dims[::-1] if by_columns else storage.dims
    view = "columns" if by_columns else "matrix"
    name = element(storage.element)
    place = f"w + {integer(storage.offset)}"
    return {
        "element": name,
        "weight": f"{view}<{name}, {dims[-1]}>({place}, {math.prod(dims[:-1])})",
    }


def neurons_of(storage: exec.Storage, gated: bool) -> dict[str, Any]:
    """A storage of neurons as its kernels see it."""
    count, inputs, outputs = storage.dims
    name, flag = element(storage.element), "true" if gated else "false"
    place = f"w + {integer(storage.offset)}"
    return {
        "element": name,
        "gated": flag,
        "inputs": inputs,
        "outputs": outputs,
        "weights": f"neurons<{name}, {flag}, {inputs}, {outputs}>({place}, {count})",
    }


def share(bounds: Sequence[int]) -> tuple[str, str]:
    """This worker's bounds, as constants picked by `worker`."""
    table = ", ".join(map(str, bounds))
    return f"bounds({{{table}}})[worker]", f"bounds({{{table}}})[worker + 1]"


Context = Callable[[Scope, Any], dict[str, Any]]
"""From an op to what its template is given."""
