"""A program of exec, kernel by kernel: Triton's interpreter beside the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from triton_interpreter import launch
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    f32,
    i64,
)
from xdsl.ir import Attribute, Block, Region, SSAValue

from sparsecomp.codegen.storage import storage_bytes
from sparsecomp.codegen.triton.build import cubin, resources
from sparsecomp.codegen.triton.call import (
    FLOAT,
    Counts,
    Keys,
    Limits,
    Operand,
    State,
    Value,
    Values,
    Weight,
    start,
)
from sparsecomp.codegen.triton.lists import maker, segments_of
from sparsecomp.codegen.triton.select import Call, Scope, calls, parts
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, Space, WorkAttr, buffer_of, shape_of
from sparsecomp.passes.plan_memory import aligned, place_weights
from sparsecomp.passes.streams import each
from sparsecomp.reference import exec as reference
from sparsecomp.reference.kernels import KERNELS

ROWS = DYNAMIC_INDEX
TILE = 8
CAPACITY = 40
"""Positions that the session holds, fewer than it might."""
POSITIONS = 64
WORKSPACE = 4096
"""Bytes before the first buffer: state lies there."""


def attribute(value: Any) -> Attribute:
    match value:
        case bool():
            return UnitAttr()
        case int():
            return IntegerAttr(value, i64)
        case float():
            return FloatAttr(value, Float64Type())
        case str():
            return SymbolRefAttr(value)
        case _:
            return value


class Program:
    """A module of one program, written op by op. Rows: 1, or ROWS of a step."""

    def __init__(self, element: Attribute = f32):
        self.element = element
        self.block = Block()
        self.program = exec.Program.create(
            properties={"sym_name": StringAttr("decode"), "tile": IntegerAttr(1, i64)},
            regions=[Region(self.block)],
        )
        self.module = ModuleOp([self.program])

    @staticmethod
    def of(module: ModuleOp) -> Program:
        """One that is there already, to be added to."""
        self = Program()
        self.module = module
        self.program = next(op for op in module.ops if isinstance(op, exec.Program))
        self.block = self.program.body.block
        return self

    def weights(self, layout: exec.Layout, *shape: int, matrices: int = 1) -> str:
        """A new storage; floats are f32. Returns its name."""
        number = len(self.module.body.block.ops)
        name = f"s{number}"
        storage = exec.Storage.create(
            properties={
                "sym_name": StringAttr(name),
                "layout": exec.LayoutAttr(layout),
                "element": f32 if layout is exec.Layout.FLOATS else self.element,
                "shape": DenseArrayBase.from_list(i64, shape),
                "of": ArrayAttr([SymbolRefAttr(f"{name}.{i}") for i in range(matrices)]),
            }
        )
        self.module.body.block.insert_op_before(storage, self.program)
        return name

    def floats(self, *shape: int) -> str:
        return self.weights(exec.Layout.FLOATS, *shape)

    def slot(self, groups: int, key: int, value: int, window: int | None = None) -> int:
        """A new slot of the KV cache."""
        number = sum(isinstance(op, exec.KVSlot) for op in self.module.ops)
        given = {"slot": number, "groups": groups, "key": key, "value": value, "window": window}
        properties = {k: attribute(v) for k, v in given.items() if v is not None}
        self.module.body.block.insert_op_before(
            exec.KVSlot.create(properties=properties), self.program
        )
        return number

    def buffer(self, *shape: int) -> SSAValue:
        buffer = exec.Buffer.create(result_types=[MemRefType(f32, shape)])
        self.block.add_op(buffer)
        return buffer.result

    def view(
        self, source: SSAValue, shape: Sequence[int], start: int, strides: Sequence[int]
    ) -> SSAValue:
        view = exec.View.create(
            operands=[source],
            properties={
                "start": IntegerAttr(start, i64),
                "strides": DenseArrayBase.from_list(i64, strides),
            },
            result_types=[MemRefType(f32, shape)],
        )
        self.block.add_op(view)
        return view.result

    def kernel(self, kind: type[exec.Kernel], /, *operands: SSAValue, **properties: Any) -> None:
        """Numbers, names of storages, True and attributes; None is left out."""
        given = {k: attribute(v) for k, v in properties.items() if v is not None}
        self.block.add_op(kind.create(operands=operands, properties=given))


def scope_of(module: ModuleOp, tile: int = TILE, capacity: int = POSITIONS) -> Scope:
    slots = {op.slot.value.data: op for op in module.ops if isinstance(op, exec.KVSlot)}
    cache = "*bf16" if exec.cache_item(module) == 2 else "*fp32"
    return Scope(slots, capacity, tile, cache)


def kernels(module: ModuleOp) -> Iterator[exec.Kernel]:
    for program in module.ops:
        if isinstance(program, exec.Program):
            yield from (op for op in program.body.block.ops if isinstance(op, exec.Kernel))


def weights_of(module: ModuleOp, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights for a module's storages, by name."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    for storage in module.ops:
        if not isinstance(storage, exec.Storage):
            continue
        names = [symbol.string_value() for symbol in storage.of]
        for name, shape in zip(names, _shapes(storage), strict=True):
            found[name] = (
                torch.randn(shape, generator=generator) / max(shape[-1:], default=1) ** 0.5
            )
    return found


def _shapes(storage: exec.Storage) -> list[tuple[int, ...]]:
    match storage.layout.data:
        case exec.Layout.NEURON_MAJOR:
            count, inputs, outputs = storage.dims
            return [(count, inputs)] * (len(storage.of) - 1) + [(outputs, count)]
        case exec.Layout.SKETCH:
            return [storage.dims, storage.dims[:1]]
        case exec.Layout.ROWS:  # of several, rows in turn
            parts = len(storage.of)
            return [(storage.dims[0] // parts, *storage.dims[1:])] * parts
        case _:
            return [storage.dims]


class Stored(reference.Stored):
    """Weights that need no declaration in the module."""

    def _weight(self, storage: exec.Storage, name: str) -> torch.Tensor:
        return self.scope.weights(name)


@dataclass
class Run:
    """A step of one program in both worlds: the reference's memory, and a file of bytes."""

    module: ModuleOp
    scope: Scope
    worker: reference.Worker
    memory: np.memmap
    file: Path
    places: dict[object, int]
    counts: dict[exec.Kernel, np.ndarray]

    def address(self, operand: Operand) -> int | None:
        match operand:
            case None:
                return None
            case State():
                return 0
            case Weight(storage, offset):
                return self.places[storage] + offset
            case Keys() | Values():
                return self.places[operand]
            case Counts(of, _):
                return self.places[of]
            case Limits():
                return self.places[operand]
            case Value(value, offset):
                return self.places[buffer_of(value)] + start(value) * FLOAT + offset

    def floats(self, value: SSAValue) -> torch.Tensor:
        """What the launches left of a value, as the reference sees it."""
        expected = self.worker.tensor(value)
        floats = torch.from_numpy(self.memory.view(np.float32))
        first = self.places[buffer_of(value)] // FLOAT + start(value)
        return floats.as_strided(expected.shape, expected.stride(), first)

    def launch(self, op: exec.Kernel) -> list[Call]:
        found = calls(op, self.scope)
        for call in found:
            offsets = [self.address(operand) for operand in call.operands]
            launch(self.file, call.kernel, offsets, call.grid)
        return found

    def entries(self, op: exec.Select) -> list[int]:
        """The list that a selection left."""
        lies, numbers = (
            segments_of(op),
            self.memory.view(np.int32)[self.places[buffer_of(op.out)] // 4 :],
        )
        segments = enumerate(numbers[: lies.number])
        starts = [(lies.number + s * lies.size, count) for s, count in segments]
        return [int(n) for start, count in starts for n in numbers[start : start + count]]

    def counted(self, op: exec.Kernel) -> list[int]:
        """What a kernel has added up."""
        found: list[int] = self.counts[op].tolist()
        return found

    def cache(self, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a slot, as f32, in the reference's shapes."""
        ring = self.worker.call.rings[slot]
        found = []
        for key, like in ((Keys(slot), ring.k), (Values(slot), ring.v)):
            size = like.numel() * like.element_size()
            raw = self.memory[self.places[key] : self.places[key] + size]
            found.append(torch.from_numpy(raw).view(like.dtype).view(like.shape).float())
        return found[0], found[1]


def begin(
    module: ModuleOp,
    folder: Path,
    *,
    tokens: Sequence[int] = (3,),
    position: int = 0,
    full_logits: bool = False,
    weights: dict[str, torch.Tensor] | None = None,
) -> Run:
    """A module of one program, ready to run on so many tokens from a position on."""
    by_name = weights_of(module) | (weights or {})
    storages, scope = place_weights([module]), scope_of(module)
    places: dict[object, int] = {}
    size = WORKSPACE
    reference_size = 0
    copies = {}
    for op in kernels(module):
        for kernel in each(op):
            _set_work(kernel)
        for kernel in each(op):
            for buffer in map(buffer_of, kernel.outputs):
                copies[buffer] = max(copies.get(buffer, 1), parts(kernel))
    for buffer in module.walk():
        if isinstance(buffer, exec.Buffer):
            shape = [TILE if n == DYNAMIC_INDEX else n for n in shape_of(buffer.result)]
            places[buffer] = size
            size += aligned(int(np.prod(shape)) * FLOAT * copies.get(buffer, 1))
            buffer.properties["space"] = exec.SpaceAttr(Space.PRIVATE)
            buffer.properties["offset"] = IntegerAttr(reference_size, i64)
            reference_size += aligned(int(np.prod(shape)) * FLOAT)
    for storage in storages:
        places[storage] = size
        size += aligned(storage.bytes)
    stored = Stored(module, by_name.__getitem__, CAPACITY)
    rings = {
        n: reference.Ring.of(slot, CAPACITY, TILE, stored.cache_dtype)
        for n, slot in scope.slots.items()
    }
    for n, ring in rings.items():
        for key, tensor in ((Keys(n), ring.k), (Values(n), ring.v)):
            places[key] = size
            size += aligned(tensor.numel() * tensor.element_size())
    sizes = {
        operand.of: operand.size
        for op in kernels(module)
        for call in calls(op, scope)
        for operand in call.operands
        if isinstance(operand, Counts)
    }
    for op, count in sizes.items():
        places[op] = size
        size += aligned(8 * count)
    selects = [op for op in module.walk() if isinstance(op, exec.Select)]
    for select in selects:
        places[Limits(select)] = size
        size += aligned(2 * FLOAT)
    file = Path(tempfile.mkdtemp(dir=folder), "memory")
    memory = np.memmap(file, np.uint8, "w+", shape=(size,))
    memory[:] = 0xFF  # not a number, read as a float
    for storage in storages:
        data = np.frombuffer(storage_bytes(storage, by_name.__getitem__), np.uint8)
        memory[places[storage] : places[storage] + len(data)] = data
    for select in selects:
        given = [n.value.data for n in (select.threshold, select.below) if n is not None]
        memory[places[Limits(select)] :][: 4 * len(given)].view(np.float32)[:] = given
    counts = {op: memory[places[op] :][: 8 * n].view(np.int64) for op, n in sizes.items()}
    for numbers in counts.values():
        numbers[:] = 0
    call = reference.Call(
        workers=1,
        shared=torch.empty(0),
        private=torch.full((1, reference_size // FLOAT), torch.nan),
        tokens=torch.tensor(tokens),
        positions=torch.arange(position, position + len(tokens)),
        logits=torch.empty(0),
        full_logits=full_logits,
        rings=rings,
        stored=stored,
        add_up=None,
    )
    for n, ring in rings.items():  # what earlier steps left
        groups, _, key = ring.k.shape
        earlier = torch.arange(max(0, position - ring.k.shape[1]), position)
        k, v = (
            torch.randn(len(earlier), groups, key),
            torch.randn(len(earlier), groups, ring.v.shape[2]),
        )
        ring.write(earlier, k, v)
        for at, tensor in ((Keys(n), ring.k), (Values(n), ring.v)):
            data = tensor.contiguous().view(torch.uint8).flatten().numpy()
            memory[places[at] : places[at] + len(data)] = data
    state = memory[:WORKSPACE].view(np.int32)
    state[:4] = position, len(tokens), full_logits, CAPACITY
    state[8 : 8 + len(tokens)] = tokens
    worker = reference.Worker(call, 0, range(len(tokens)))
    return Run(module, scope, worker, memory, file, places, counts)


def _set_work(op: exec.Kernel) -> None:
    """The reference does it all in one worker."""
    shape = shape_of(op.operands[0])
    mode = Mode.ROWS if shape[0] == DYNAMIC_INDEX else Mode.EACH
    if isinstance(op, exec.Attend) and mode is Mode.EACH:
        mode = Mode.CONTEXT
    op.properties["work"] = WorkAttr.of(mode)


def give(run: Run, value: SSAValue, data: torch.Tensor) -> None:
    """Write a buffer in both worlds."""
    run.worker.tensor(value).copy_(data)
    run.floats(value).copy_(data)


def is_partial(value: SSAValue) -> bool:
    """Whether a value lies in parts, as many as there are programs."""
    readers = (use.operation for use in value.uses if use.index == 0)
    return any(isinstance(op, exec.Sum | exec.Combine) for op in readers)


def check(run: Run, *, given: Sequence[torch.Tensor] = (), tolerance: float = 2e-5) -> list[Call]:
    """Run all kernels in both worlds; each result must be near the reference's.

    `given` fills buffers that no kernel writes, in order. What lies in parts is seen in their sum.
    """
    ops = list(kernels(run.module))
    written = {buffer_of(value) for op in ops for kernel in each(op) for value in kernel.outputs}
    read = [b for b in run.module.walk() if isinstance(b, exec.Buffer) and b not in written]
    for buffer, data in zip(read, given, strict=True):
        give(run, buffer.result, data)
    launched: list[Call] = []
    for op in ops:
        KERNELS[type(op)](run.worker, op)
        launched += run.launch(op)
        for value in op.outputs:
            if not is_partial(value):
                check_value(run, value, tolerance)
        for kernel in each(op):
            if isinstance(kernel, exec.Append):
                slot = kernel.slot.value.data
                ring = run.worker.call.rings[slot]
                for actual, like in zip(run.cache(slot), (ring.k, ring.v), strict=True):
                    torch.testing.assert_close(actual, like.float(), equal_nan=True)
    return launched


def check_value(run: Run, value: SSAValue, tolerance: float) -> None:
    """That a buffer holds the same in both worlds: floats, or a list."""
    expected, actual = run.worker.tensor(value), run.floats(value)
    if any(isinstance(use.operation, exec.Select) and use.index for use in value.uses):
        select = maker(value)
        count, *entries = expected[0].view(torch.int32).tolist()
        assert run.entries(select) == entries[:count]
        assert sum(run.counted(select)) == count
    else:
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


ARCHS = (80, 90, 100)


def fits(
    module: ModuleOp, tile: int = 128, capacity: int = 2048, archs: Sequence[int] = ARCHS
) -> None:
    """Every kernel of a module compiles for each GPU, without spilling, within its resources."""
    scope = scope_of(module, tile, capacity)
    found = [call.kernel for op in kernels(module) for call in calls(op, scope)]
    for kernel in dict.fromkeys(found):
        for arch in archs:
            binary = cubin(kernel, arch)
            used = resources(binary)
            room = f"{kernel} on sm_{arch}: {used}, {binary.shared} bytes shared"
            assert used.spilled == 0, room
            assert used.registers * kernel.warps * 32 <= 65536, room
            assert binary.shared <= 99 * 1024, room
