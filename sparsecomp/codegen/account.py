"""Facts of a program that its exec IR tells: bytes read, sizes, limits."""

from __future__ import annotations

import math
from collections.abc import Iterator

from xdsl.dialects.builtin import MemRefType, ModuleOp, SymbolRefAttr
from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.runtime.artifact import Part

KERNEL_PARTS: dict[type[Operation], Part] = {
    exec.Embed: Part.EMBED,
    exec.Mlp: Part.MLP,
    exec.ExpertLinear: Part.MLP,
    exec.Sum: Part.MLP,
    exec.Rope: Part.ATTENTION,
    exec.Attend: Part.ATTENTION,
    exec.Combine: Part.ATTENTION,
}
"""What the weights that a kernel reads count as; a linear says so itself."""


def _program(module: ModuleOp, name: str) -> exec.Program:
    return next(
        op for op in module.ops if isinstance(op, exec.Program) and op.sym_name.data == name
    )


def _reads(op: Operation) -> Iterator[exec.Storage]:
    for value in op.properties.values():
        if isinstance(value, SymbolRefAttr):
            yield exec.find_storage(op, value)


def bytes_per_token(module: ModuleOp) -> dict[Part, int]:
    """Bytes of weights that one decode step reads, by part of the model.

    A table counts one row, and once, however many layers look it up; of experts, those chosen.
    """
    total = dict.fromkeys(Part, 0)
    rows_seen: set[exec.Storage] = set()
    for op in _program(module, "decode").body.block.ops:
        if not isinstance(op, exec.Kernel | exec.Constant):
            continue
        part = Part(op.part.data) if isinstance(op, exec.Linear) else KERNEL_PARTS.get(type(op))
        for storage in _reads(op):
            size = storage.bytes
            if isinstance(op, exec.Embed | exec.Rope):
                if storage in rows_seen:
                    continue
                rows_seen.add(storage)
                size = math.prod(storage.dims[1:]) * storage.item
            if isinstance(op, exec.ExpertLinear):  # the chosen experts alone
                size = size // storage.dims[0] * _choices(op)
            total[part or Part.OTHER] += size
    return total


def _choices(op: exec.ExpertLinear) -> int:
    """How many experts a token chooses."""
    assert isinstance(op.experts.type, MemRefType)
    return math.prod(op.experts.type.get_shape())


def _slots(module: ModuleOp) -> list[exec.KVSlot]:
    return [op for op in module.ops if isinstance(op, exec.KVSlot)]


def kv_bytes_per_position(module: ModuleOp) -> int:
    """Bytes of keys and values that one position adds."""
    item = min(op.item for op in module.ops if isinstance(op, exec.Storage))
    return item * sum(
        slot.groups.value.data * (slot.key.value.data + slot.value.value.data)
        for slot in _slots(module)
    )


def rewind_limit(module: ModuleOp, positions: int) -> int | None:
    """How far below the furthest position a session can go back; None: all the way.

    A window's ring keeps the window and one tile of a prompt.
    """
    windows = [s.window.value.data for s in _slots(module) if s.window is not None]
    if not any(window < positions for window in windows):
        return None
    prefill = _program(module, "prefill")
    assert prefill.workers is not None
    return prefill.workers.value.data * prefill.tile.value.data + 1


def logits_width(module: ModuleOp) -> int:
    """The size of the vocabulary that the program scores."""
    for op in _program(module, "decode").body.block.ops:
        if isinstance(op, exec.Buffer) and op.space == exec.SpaceAttr(exec.Space.OUTPUT):
            assert isinstance(op.result.type, MemRefType)
            return math.prod(op.result.type.get_shape())
    raise ValueError("the program has no output")
