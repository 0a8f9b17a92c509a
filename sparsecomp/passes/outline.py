"""Moving a computation that no token enters out of the program, into a derived weight."""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp, StringAttr, TensorType
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import aten

from .base import module_path
from .build import tensor_type


def backward_slice(
    value: SSAValue, stop: Mapping[SSAValue, SSAValue] | None = None
) -> list[Operation]:
    """The ops that a value is computed by, in their order; values in `stop` count as inputs."""
    found: set[Operation] = set()
    stack = [value]
    while stack:
        current = stack.pop()
        op = current.owner
        if (stop and current in stop) or not isinstance(op, Operation) or op in found:
            continue
        found.add(op)
        stack.extend(op.operands)
    if not found:
        return []
    block = next(iter(found)).parent_block()
    assert block is not None
    return [op for op in block.ops if op in found]


def clone_slice(value: SSAValue, into: Block, given: dict[SSAValue, SSAValue]) -> SSAValue:
    """Copy the computation of a value to the end of a block, the values in `given` replaced."""
    mapping = dict(given)
    for op in backward_slice(value, given):
        into.add_op(op.clone(mapping))
    return mapping.get(value, value)


class Outliner:
    """Adds derived weights to a module, one for every different computation."""

    def __init__(self, module: ModuleOp):
        self.module = module
        self._names = {
            op.sym_name.data for op in module.ops if isinstance(op, aten.Weight | aten.Derived)
        }
        self._by_text = {
            _text(op): op.sym_name.data for op in module.ops if isinstance(op, aten.Derived)
        }

    def add(self, name: str, block: Block, result: SSAValue) -> tuple[str, TensorType]:
        """Declare the block's result under `name` (or the name its equal has already).

        Returns the symbol and its type.
        """
        block.add_op(aten.Yield(result))
        type = tensor_type(result)
        derived = aten.Derived(name, type, Region(block))
        text = _text(derived)
        if (known := self._by_text.get(text)) is not None:
            derived.erase()
            return known, type
        unique, n = name, 1
        while unique in self._names:
            n += 1
            unique = f"{name}.{n}"
        derived.properties["sym_name"] = StringAttr(unique)
        self._names.add(unique)
        self._by_text[text] = unique
        self._insert(derived)
        return unique, type

    def outline(self, value: SSAValue, name: str) -> tuple[str, TensorType]:
        """Declare a value's own computation."""
        block = Block()
        return self.add(name, block, clone_slice(value, block, {}))

    def _insert(self, derived: aten.Derived) -> None:
        declarations = [op for op in self.module.ops if isinstance(op, aten.Weight | aten.Derived)]
        where = (
            InsertPoint.after(declarations[-1])
            if declarations
            else InsertPoint.at_start(self.module.body.block)
        )
        Builder(where).insert(derived)


def _text(derived: aten.Derived) -> str:
    """The body as text: equal bodies are one weight, whatever module they come from."""
    copy = derived.clone()
    copy.properties["sym_name"] = StringAttr("")
    for op in copy.walk():
        op.attributes.pop("module", None)
        for result in op.results:
            result.name_hint = None
    return str(copy)


def weight_name(value: SSAValue, suffix: str) -> str:
    """A name for something computed from a value: after its one weight, else after its module."""
    ops = backward_slice(value)
    weights = {op.weight.string_value() for op in ops if isinstance(op, aten.Get)}
    if len(weights) == 1:
        return f"{weights.pop()}.{suffix}"
    owner = value.owner
    path = module_path(owner) if isinstance(owner, Operation) else ""
    return f"{path}.{suffix}" if path else suffix
