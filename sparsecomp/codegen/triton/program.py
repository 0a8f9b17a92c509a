"""Scheduled modules of exec to launch programs: arguments resolved, each kernel compiled once."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp
from xdsl.ir import Operation

from sparsecomp.codegen.counters import counters
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Space, SpaceAttr, buffer_of, shape_of, to_lines
from sparsecomp.runtime import launch
from sparsecomp.runtime.artifact import KV_COUNTER, launch_member
from sparsecomp.runtime.launch import Argument, Code, LaunchProgram, Region, Steps

from . import build, kernels
from .call import (
    FLOAT,
    Call,
    Counts,
    Kernel,
    Keys,
    Limits,
    Operand,
    Scope,
    State,
    Value,
    Values,
    Weight,
    start,
)
from .lists import segments_of
from .select import calls

Compile = Callable[[Kernel, Code], build.Binary]
DRIVERS = {Code.SM_80: 12000, Code.SM_90: 12000, Code.SM_100: 13000, Code.PTX: 12080}
"""The CUDA version of a driver that runs what the compiler makes."""
ROOM = 16
"""Bytes of the limits of a selection, and at least of what is counted and compared with."""


@dataclass(frozen=True)
class Built:
    """The launch program of each rank; their texts, and their binaries, by their members' names."""

    programs: tuple[LaunchProgram, ...]
    members: Mapping[str, bytes]


def compile_kernel(kernel: Kernel, code: Code) -> build.Binary:
    if code is Code.PTX:
        return build.ptx(kernel)
    return build.cubin(kernel, int(code.removeprefix("sm_")))


def build_programs(
    modules: Sequence[ModuleOp],
    positions: int,
    codes: Sequence[Code],
    compile: Compile,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """The launch programs of modules, one a rank, that schedule-streams and plan-memory have
    scheduled.

    `positions` is what a session holds. Kernels are compiled to each of `codes`, and to PTX.
    Raises SparsecompError for an op that has no kernel.
    """
    lowerings = [_Lowering(module, positions) for module in modules]
    kinds = dict.fromkeys((*codes, Code.PTX))
    members: dict[str, bytes] = {}
    described: dict[str, launch.Kernel] = {}
    names = {kernel: name for of in lowerings for kernel, name in of.names.items()}
    for done, (kernel, name) in enumerate(names.items(), start=1):
        compiled = {code: compile(kernel, code) for code in kinds}
        members |= {launch.binary_member(code, name): b.code for code, b in compiled.items()}
        described[name] = _described(compiled)
        progress(done, len(names))
    programs = []
    for rank, lowering in enumerate(lowerings):
        program = lowering.program(described, {code: DRIVERS[code] for code in kinds})
        member = launch_member(rank)
        members[member] = launch.encode_program(program, member)
        programs.append(program)
    members[launch.SOURCE] = _source(names).encode()
    return Built(tuple(programs), members)


def _described(compiled: Mapping[Code, build.Binary]) -> launch.Kernel:
    binaries = {
        code: launch.Binary(binary.shared, hashlib.sha256(binary.code).hexdigest())
        for code, binary in compiled.items()
    }
    (entry,) = {binary.entry for binary in compiled.values()}
    (warps,) = {binary.warps for binary in compiled.values()}
    return launch.Kernel(entry, warps, binaries)


def _source(used: Collection[Kernel]) -> str:
    """The text of all kernels: those that stand in files, and those generated for this program."""
    files = sorted(Path(kernels.__path__[0]).glob("[!_]*.py"))
    texts = [f"# {file.name}\n{file.read_text()}" for file in files]
    generated = dict.fromkeys(kernel.source for kernel in used if kernel.source)
    return "\n\n".join([*texts, *generated])


class _Lowering:
    """Where everything of a module lies, and the kernels met so far, with their names."""

    def __init__(self, module: ModuleOp, positions: int):
        self.positions = positions
        programs = {op.sym_name.data: op for op in module.ops if isinstance(op, exec.Program)}
        self.programs = programs.values()
        slots = {op.slot.value.data: op for op in module.ops if isinstance(op, exec.KVSlot)}
        self.item = item = exec.cache_item(module)
        tile = programs["prefill"].tile.value.data
        self.scope = Scope(slots, positions, tile, "*bf16" if item == 2 else "*fp32")
        self.weights = pieces(op for op in module.ops if isinstance(op, exec.Storage))
        self.names: dict[Kernel, str] = {}
        self.counters = counters(module)
        self.counts: dict[Operation, launch.Count] = {}
        self.limits: list[float] = []
        by_heads = {
            op.slot for op in module.walk() if isinstance(op, exec.Attend) and op.list is not None
        }
        self.slots = tuple(
            launch.Slot(
                op.groups.value.data * op.key.value.data * item,
                op.groups.value.data * op.value.value.data * item,
                None if op.window is None else op.window.value.data,
                self.scope.ring(number) if self.scope.goes_round(number) else None,
                op.slot in by_heads,
            )
            for number, op in slots.items()
        )
        places = launch.cache_places(self.slots, positions)
        operands = [operand for number in slots for operand in (Keys(number), Values(number))]
        self.places: dict[Operand, Argument] = {
            operand: Argument(Region.CACHE, begin, end - begin, False)
            for operand, (begin, end) in zip(operands, pairwise(places), strict=True)
        }
        self.cache_bytes = places[-1]
        self.prefill, self.decode = (self.steps(programs[name]) for name in ("prefill", "decode"))

    def program(
        self, kernels: Mapping[str, launch.Kernel], drivers: Mapping[Code, int]
    ) -> LaunchProgram:
        """`kernels` are described by their names."""
        streams = (op.streams.value.data for op in self.programs if op.streams is not None)
        return LaunchProgram(
            drivers=drivers,
            tile=self.scope.tile,
            positions=self.positions,
            streams=max(streams),
            regions=self.regions(self.programs),
            weights=tuple(self.weights),
            slots=self.slots,
            kernels={name: kernels[name] for name in self.names.values()},
            prefill=self.prefill,
            decode=self.decode,
            counters=self.counters.count,
            counts=tuple(self.counts.values()),
            limits=tuple(self.limits),
            trace_slots=self.counters.trace_slots,
            lists=self.lists(),
        )

    def regions(self, programs: Collection[exec.Program]) -> dict[Region, int]:
        """Bytes of each; both programs have the same arena, one after the other."""
        return {
            Region.WEIGHTS: max((piece.offset + piece.size for piece in self.weights), default=0),
            Region.ARENA: max(p.shared.value.data for p in programs if p.shared is not None),
            Region.CACHE: self.cache_bytes,
            Region.STATE: launch.state_bytes(self.scope.tile),
            Region.LOGITS: max(
                _size(op)
                for p in programs
                for op in p.body.block.ops
                if isinstance(op, exec.Buffer) and op.space == SpaceAttr(Space.OUTPUT)
            ),
            Region.LIMITS: max(len(self.limits) * FLOAT, ROOM),
            Region.COUNTS: max(self._next_count() * launch.COUNT_BYTES, ROOM),
        }

    def _next_count(self) -> int:
        """The first count after those met so far, at a multiple of 16 bytes."""
        ends = [count.first + count.size for count in self.counts.values()]
        return -(-max(ends, default=0) // 2) * 2

    def _count(self, op: exec.Kernel, size: int) -> launch.Count:
        """Where a kernel counts, and what for."""
        if op not in self.counts:
            unit = 1
            match op:
                case exec.Select():
                    counter = self.counters.chosen[op]
                case exec.SparseMlp():
                    counter = self.counters.further[op]
                case exec.Attend():
                    slot = self.scope.slots[op.slot.value.data]
                    counter, unit = KV_COUNTER, _group_bytes(slot, self.item)
                case _:
                    raise AssertionError(f"{op.name} counts nothing")
            self.counts[op] = launch.Count(counter, self._next_count(), size, unit)
        return self.counts[op]

    def _lies(self, storage: exec.Storage) -> int:
        """Where a storage begins in the region of weights."""
        source = _offset(storage)
        piece = self.weights[bisect_right(self.weights, source, key=lambda p: p.source) - 1]
        return piece.offset + source - piece.source

    def lists(self) -> tuple[launch.UnitList, ...]:
        """Where the lists of chosen units lie at the end of a decode step."""
        found = []
        for op, slot in self.counters.trace.items():
            buffer, lies = buffer_of(op.out), segments_of(op)
            assert buffer is not None
            found.append(launch.UnitList(slot, _offset(buffer), lies.number, lies.size))
        return tuple(found)

    def steps(self, program: exec.Program) -> Steps:
        launches: list[launch.Launch] = []
        sums: list[launch.Sum] = []
        events: dict[int, int] = {}  # the launch that each stands for
        latest: dict[int, int] = {}  # of each stream
        waiting: dict[int, list[int]] = {}
        always = None
        for op in program.body.block.ops:
            match op:
                case exec.Record():
                    events[op.event.value.data] = latest[op.stream.value.data]
                case exec.Wait():
                    event = events[op.event.value.data]
                    waiting.setdefault(op.stream.value.data, []).append(event)
                case exec.LogitsOnly():
                    always = len(launches)
                case exec.AllReduce():
                    sums.append(self._sum(op, len(launches)))
                case exec.Kernel():
                    stream = op.work_of.bounds[0]
                    for call in calls(op, self.scope):
                        waits = tuple(waiting.pop(stream, ()))
                        latest[stream] = len(launches)
                        launches.append(self._launch(op, call, stream, waits))
        always = len(launches) if always is None else always
        return Steps(tuple(launches), always, tuple(sums))

    def _sum(self, op: exec.AllReduce, before: int) -> launch.Sum:
        """In the order of its rows: what a rank gives, and the sums."""
        rows, *row = shape_of(op.out)
        x = None if op.x is None else self._argument(op, Value(op.x))
        out = self._argument(op, Value(op.out))
        assert out is not None
        return launch.Sum(before, math.prod(row), rows == DYNAMIC_INDEX, x, out)

    def _launch(
        self, op: exec.Kernel, call: Call, stream: int, waits: tuple[int, ...]
    ) -> launch.Launch:
        arguments = tuple(self._argument(op, operand) for operand in call.operands)
        for argument, kind in zip(arguments, call.kernel.pointers, strict=True):
            _, _, align = kind.partition(":")
            assert argument is None or argument.offset % int(align or 1) == 0, (op, argument)
        return launch.Launch(self._name(call.kernel), call.grid, stream, waits, arguments)

    def _name(self, kernel: Kernel) -> str:
        if kernel not in self.names:
            key = hashlib.sha256(repr(kernel).encode()).hexdigest()
            self.names[kernel] = f"{kernel.function}_{key[:8]}"
        return self.names[kernel]

    def _argument(self, op: exec.Kernel, operand: Operand) -> Argument | None:
        match operand:
            case None:
                return None
            case State():
                return Argument(Region.STATE, 0, launch.state_bytes(self.scope.tile), False)
            case Counts(of, size):
                first = self._count(of, size).first
                sizes = first * launch.COUNT_BYTES, size * launch.COUNT_BYTES
                return Argument(Region.COUNTS, *sizes, True)
            case Weight(storage, offset):
                begin = self._lies(storage) + offset
                return Argument(Region.WEIGHTS, begin, storage.bytes - offset, False)
            case Keys() | Values():
                place = self.places[operand]
                writes = any(isinstance(inner, exec.Append) for inner in op.walk())
                return Argument(place.region, place.offset, place.size, writes)
            case Limits(of):
                first = len(self.limits) * FLOAT
                given = (n.value.data for n in (of.threshold, of.below) if n is not None)
                self.limits += [*given, *[0.0] * (ROOM // FLOAT)][: ROOM // FLOAT]
                return Argument(Region.LIMITS, first, ROOM, False)
            case Value(value, offset):
                buffer = buffer_of(value)
                assert buffer is not None
                skipped = start(value) * FLOAT + offset
                size = _size(buffer, self.scope.tile) - skipped
                writes = buffer in map(buffer_of, op.outputs)
                if buffer.space == SpaceAttr(Space.OUTPUT):
                    return Argument(Region.LOGITS, skipped, size, writes)
                return Argument(Region.ARENA, _offset(buffer) + skipped, size, writes)


def pieces(storages: Iterable[exec.Storage]) -> list[launch.Piece]:
    """What of the artifact's weights a program reads, in few pieces: what is apart there, as other
    ranks' weights lie between, is put together."""
    found: list[launch.Piece] = []
    for storage in sorted(storages, key=_offset):
        source, size = _offset(storage), storage.bytes
        last = found[-1] if found else launch.Piece(0, 0, 0)
        if source == to_lines(last.source + last.size):
            found[-1:] = [launch.Piece(last.source, last.offset, source + size - last.source)]
        else:
            found.append(launch.Piece(source, to_lines(last.offset + last.size), size))
    return found


def _group_bytes(slot: exec.KVSlot, item: int) -> int:
    """Bytes of the keys and values that a position has of one group."""
    return (slot.key.value.data + slot.value.value.data) * item


def _offset(op: Operation) -> int:
    return int(op.properties["offset"].value.data)  # type: ignore[attr-defined]


def _size(buffer: exec.Buffer, tile: int = 1) -> int:
    """Bytes of all copies of a buffer."""
    _, *rest = shape_of(buffer.result)
    rows = tile if shape_of(buffer.result)[0] < 0 else shape_of(buffer.result)[0]
    copies = 1 if buffer.copies is None else buffer.copies.value.data
    return copies * rows * math.prod(rest) * FLOAT
