"""The checks behind the forms that passes require and ensure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import aten, exec

from .base import Form, functions


def _not_rows(module: ModuleOp) -> Operation | None:
    """Every value that counts positions counts them in its first dimension alone."""
    for func in functions(module):
        block = func.body.block
        if any(_hides_positions(a) for a in block.args):
            return func
        for op in block.ops:
            if any(_hides_positions(r) for r in op.results):
                return op
    return None


def _hides_positions(value: SSAValue) -> bool:
    return isinstance(value.type, TensorType) and DYNAMIC_INDEX in value.type.get_shape()[1:]


def _not_decode(module: ModuleOp) -> Operation | None:
    names = {f.sym_name.data for f in functions(module)}
    return None if names == {"prefill", "decode"} else module


def _not_full_sequence(module: ModuleOp) -> Operation | None:
    names = {f.sym_name.data for f in functions(module)}
    return None if names == {"forward"} else module


def _weight_math(module: ModuleOp) -> Operation | None:
    """A call of which every operand is a weight belongs into a derived weight."""
    for func in functions(module):
        for op in func.body.block.ops:
            if isinstance(op, aten.AtenOp) and all(
                isinstance(o.owner, aten.Get) for o in op.operands
            ):
                return op
    return None


def programs(module: ModuleOp) -> Iterator[exec.Program]:
    return (op for op in module.ops if isinstance(op, exec.Program))


def _no_programs(module: ModuleOp) -> Operation | None:
    names = {p.sym_name.data for p in programs(module)}
    return None if names == {"prefill", "decode"} else module


def _unscheduled(module: ModuleOp) -> Operation | None:
    for program in programs(module):
        for op in program.body.block.ops:
            if isinstance(op, exec.Kernel) and op.properties.get("work") is None:
                return op
    return None


def _racing(module: ModuleOp) -> Operation | None:
    """A kernel that reads what another worker may still write, or whose bytes it still uses."""
    from .races import race

    return next((op for p in programs(module) if (op := race(p)) is not None), None)


CHECKS: dict[Form, Callable[[ModuleOp], Operation | None]] = {
    Form.SYMBOLIC_WEIGHTS: _weight_math,
    Form.ROWS: _not_rows,
    Form.FULL_SEQUENCE: _not_full_sequence,
    Form.DECODE: _not_decode,
    Form.KERNELS: _no_programs,
    Form.SCHEDULED: _unscheduled,
    Form.RACE_FREE: _racing,
}
