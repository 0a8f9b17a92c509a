"""The values of ops: the part of a graph that some values depend on, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    BFloat16Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IntegerType,
    ModuleOp,
    TensorType,
)
from xdsl.ir import Attribute, Operation, SSAValue

from sparsecomp.dialects import aten, spz
from sparsecomp.dialects.schema import Dim
from sparsecomp.errors import SparsecompError

from .spz import run as run_spz

Weights = Callable[[str], torch.Tensor]
"""A weight's value (float32) by its name in the checkpoint."""

AddUp = Callable[[torch.Tensor], torch.Tensor]
"""The sum over all ranks of what each gives."""

Watch = Callable[[SSAValue, torch.Tensor], None]

_FLOATS: dict[type[Attribute], torch.dtype] = {
    Float32Type: torch.float32,
    Float64Type: torch.float64,
    Float16Type: torch.float16,
    BFloat16Type: torch.bfloat16,
}
_INTEGERS = {1: torch.bool, 8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}


def torch_dtype(type: Attribute) -> torch.dtype:
    """The torch dtype of an element type."""
    if isinstance(type, IntegerType):
        return _INTEGERS[type.width.data]
    return _FLOATS[type.__class__]


@dataclass
class Derived:
    """Values of derived weights for `positions` positions, computed when first asked for."""

    positions: int
    _values: dict[aten.Derived, torch.Tensor] = field(default_factory=dict)

    def get(self, op: aten.Derived, weights: Weights) -> torch.Tensor:
        if op not in self._values:
            result = op.body.block.last_op
            assert isinstance(result, aten.Yield)
            (value,) = evaluate(
                [result.value], {}, length=self.positions, weights=weights, derived=self
            )
            self._values[op] = value
        return self._values[op]


@dataclass(frozen=True)
class Scope:
    """What ops run against: `length` is the value of `s`.

    Where a graph counts the positions 0..s-1, `positions` (1-D, int64, `length` elements) stands
    for them when it is given.
    """

    length: int
    weights: Weights
    derived: Derived
    positions: torch.Tensor | None = None
    add_up: AddUp | None = None
    """How a rank reaches the others, where there are any."""


def evaluate(
    values: Sequence[SSAValue],
    bindings: Mapping[SSAValue, torch.Tensor],
    *,
    length: int,
    weights: Weights,
    positions: torch.Tensor | None = None,
    derived: Derived | None = None,
) -> list[torch.Tensor]:
    """The values of `values`, computing only what they depend on and `bindings` does not give.

    `length` is the value of `s`. `positions` (1-D, int64, `length` elements) stands for 0..s-1, so
    that a mask can be looked at far from the origin. `derived` keeps derived weights between calls;
    by default they are made for `length` positions.

    Raises SparsecompError, naming the op and the module that it came from, when an op fails.
    """
    if positions is not None and positions.shape != (length,):
        raise ValueError(f"positions has shape {tuple(positions.shape)}, expected ({length},)")
    scope = Scope(length, weights, derived or Derived(length), positions)
    return execute(needed(values, bindings), values, bindings, scope)


def execute(
    ops: Sequence[Operation],
    values: Sequence[SSAValue],
    bindings: Mapping[SSAValue, Any],
    scope: Scope,
    watch: Watch | None = None,
) -> list[torch.Tensor]:
    """Run `ops` in order, freeing each value after its last use; the values of `values`.

    `watch` sees the results of every op, as soon as they are there.
    """
    uses = Counter(operand for op in ops for operand in op.operands)
    uses.update(values)
    known = dict(bindings)
    for op in ops:
        results = _run(op, known, scope)
        if watch is not None:
            for result, tensor in zip(op.results, results, strict=True):
                watch(result, tensor)
        known.update((r, t) for r, t in zip(op.results, results, strict=True) if r in uses)
        for operand in op.operands:
            uses[operand] -= 1
            if not uses[operand] and operand not in bindings:
                known.pop(operand, None)
    return [known[value] for value in values]


def needed(values: Iterable[SSAValue], bindings: Mapping[SSAValue, Any]) -> list[Operation]:
    """The ops that `values` depend on, operands first."""
    order: dict[Operation, None] = {}
    stack = [(value, False) for value in reversed(list(values))]
    while stack:
        value, ready = stack.pop()
        op = value.owner
        if value in bindings or op in order:
            continue
        if not isinstance(op, Operation):
            raise ValueError("a block argument has no tensor bound to it")
        if ready:
            order[op] = None
        else:
            stack.append((value, True))
            stack.extend((operand, False) for operand in reversed(op.operands))
    return list(order)


def _run(op: Operation, known: Mapping[SSAValue, Any], scope: Scope) -> Sequence[torch.Tensor]:
    try:
        match op:
            case aten.Get():
                return (weight_of(op, op.weight.string_value(), scope),)
            case aten.AtenOp():
                return call_aten(op, known, scope)
            case spz.AllReduce():
                return (_all_reduce(op, known, scope),)
            case spz.SpzOp():
                operands = [known[operand] for operand in op.operands]
                return (run_spz(op, operands, lambda name: weight_of(op, name, scope)),)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SparsecompError(f"op {op.name}{_where(op)}: {reason}") from error
    raise SparsecompError(f"op {op.name}{_where(op)}: the reference has no meaning for it")


def call_aten(
    op: aten.AtenOp, known: Mapping[SSAValue, torch.Tensor], scope: Scope
) -> Sequence[torch.Tensor]:
    """The ATen call that the op stands for."""
    arguments = op.arguments()
    if scope.positions is not None and _counts_positions(op):
        dtype = arguments["dtype"]
        return (scope.positions.to(torch.int64 if dtype is None else torch_dtype(dtype)),)
    name, _, overload = op.name.removeprefix("aten.").partition(".")
    function = getattr(getattr(torch.ops.aten, name), overload or "default")
    needed = {a.name for a in function._schema.arguments if not a.has_default_value()}
    given = {
        k: _concrete(v, known, scope.length)
        for k, v in arguments.items()
        if v is not None or k in needed
    }
    if "device" in needed:
        given["device"] = torch.device("cpu")
    result = function(**given)
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


def _all_reduce(
    op: spz.AllReduce, known: Mapping[SSAValue, torch.Tensor], scope: Scope
) -> torch.Tensor:
    if scope.add_up is None:
        raise ValueError("no other ranks are given")
    if op.x is not None:
        return scope.add_up(known[op.x])
    assert isinstance(op.result.type, TensorType)
    shape = [scope.length if n == DYNAMIC_INDEX else n for n in op.result.type.get_shape()]
    return scope.add_up(torch.zeros(shape))


def weight_of(op: Operation, name: str, scope: Scope) -> torch.Tensor:
    """The value of @name, which `op` reads."""
    declaration = find_symbol(op, name)
    if isinstance(declaration, aten.Derived):
        return scope.derived.get(declaration, scope.weights)
    return scope.weights(name)


def _where(op: Operation) -> str:
    """` in model.layers.3.mlp`, or nothing when the op does not know its module."""
    path = getattr(op.attributes.get("module"), "data", "")
    return f" in {path}" if path else ""


def find_symbol(op: Operation, name: str) -> Operation:
    """The declaration of @name at the top of the module that `op` is in."""
    top: Operation = op
    while (parent := top.parent_op()) is not None:
        top = parent
    assert isinstance(top, ModuleOp)
    for candidate in top.ops:
        symbol = candidate.properties.get("sym_name")
        if symbol is not None and getattr(symbol, "data", None) == name:
            return candidate
    raise SparsecompError(f"op {op.name}: nothing is declared as @{name}")


def _counts_positions(op: aten.AtenOp) -> bool:
    match op:
        case aten.Arange() | aten.ArangeStart() | aten.ArangeStep():
            given = op.arguments()
            return (given.get("start", 0), given["end"], given.get("step", 1)) == (0, Dim(1), 1)
        case _:
            return False


def _concrete(value: Any, known: Mapping[SSAValue, torch.Tensor], length: int) -> Any:
    match value:
        case SSAValue():
            return known[value]
        case Dim():
            return value.at(length)
        case Attribute():
            return torch_dtype(value)
        case list():
            return [_concrete(v, known, length) for v in value]
        case _:
            return value
