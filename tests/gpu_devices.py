"""Devices that stand in for a GPU: one that only checks what it is asked for, and one that runs it
through Triton's interpreter."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import triton_interpreter
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.codegen.triton import build
from sparsecomp.codegen.triton.call import Kernel
from sparsecomp.codegen.triton.program import Built, build_programs
from sparsecomp.runtime.device import OutOfMemory
from sparsecomp.runtime.launch import Argument, Code, Launch, Region, Steps

ALIGN = 256
MAIN = 0
MEMORY = 1 << 20
ONE_AT_A_TIME = threading.Lock()
"""Triton's interpreter knows of one program."""


@dataclass(frozen=True)
class Record:
    event: int
    stream: int


@dataclass(frozen=True)
class Wait:
    event: int
    stream: int


@dataclass(frozen=True)
class Launched:
    function: Any
    grid: tuple[int, ...]
    arguments: tuple[int, ...]
    stream: int


Step = Record | Wait | Launched


@dataclass
class NullDevice:
    """Keeps memory in a file, and what it is asked for in `log`; runs nothing.

    Asserts that the order of calls is one that a GPU takes: events are recorded before they are
    waited for, nothing is copied or freed while a graph is captured, a stream joins a capture by
    waiting for one that has, and all streams are waited for in the end. Memory is used only while
    it is allocated.
    """

    folder: Path
    arch: int = 90
    driver: int = 13000
    size: int = MEMORY
    name: str = "a stand-in"
    log: list[Step] = field(default_factory=list)
    allocated: dict[int, int] = field(default_factory=dict)
    captured: list[Step] | None = None
    replays: int = 0

    def __post_init__(self) -> None:
        self.file = self.folder / "memory"
        self.memory = np.memmap(self.file, np.uint8, "w+", shape=(self.size,))
        self.memory[:] = 0xFF  # not a number, read as a float
        self.top = ALIGN  # 0 is a null pointer

    def load(self, code: bytes, entry: str, shared: int) -> Any:
        return code

    def allocate(self, size: int) -> int:
        assert self.captured is None
        address = self.top
        if address + size > self.size:
            raise OutOfMemory(f"out of memory on the GPU: {size} bytes are needed")
        self.top += -(-size // ALIGN) * ALIGN
        self.allocated[address] = size
        return address

    def free(self, address: int) -> None:
        assert self.captured is None
        del self.allocated[address]

    def write(self, address: int, host: int, size: int) -> None:
        assert self.captured is None and self.holds(address, size)
        self.finish()
        self.memory[address : address + size] = np.ctypeslib.as_array(
            ctypes.cast(host, ctypes.POINTER(ctypes.c_uint8)), (size,)
        )

    def read(self, host: int, address: int, size: int) -> None:
        assert self.captured is None and self.holds(address, size)
        self.finish()
        ctypes.memmove(host, self.memory.ctypes.data + address, size)

    def copy(self, to: int, source: int, size: int) -> None:
        assert self.captured is None and self.holds(to, size) and self.holds(source, size)
        self.finish()
        self.memory[to : to + size] = self.memory[source : source + size]

    def clear(self, address: int, size: int) -> None:
        assert self.captured is None and self.holds(address, size)
        self.finish()
        self.memory[address : address + size] = 0

    def launch(
        self,
        function: Any,
        grid: Sequence[int],
        threads: int,
        shared: int,
        arguments: Sequence[int],
        stream: int,
    ) -> None:
        assert threads % 32 == 0 and all(a == 0 or self.holds(a, 1) for a in arguments)
        self._do(Launched(function, tuple(grid), tuple(arguments), stream))

    def record(self, event: int, stream: int) -> None:
        self._do(Record(event, stream))

    def wait(self, event: int, stream: int) -> None:
        self._do(Wait(event, stream))

    def begin_capture(self) -> None:
        assert self.captured is None
        self.captured = []

    def end_capture(self) -> list[Step]:
        assert self.captured is not None
        graph, self.captured = self.captured, None
        check_streams(graph)
        return graph

    def replay(self, graph: list[Step]) -> None:
        self.replays += 1
        self.log += graph

    def drop(self, graph: list[Step]) -> None:
        assert self.captured is None

    def finish(self) -> None:
        """What was asked for is done."""

    def holds(self, address: int, size: int) -> bool:
        """Whether these bytes are allocated."""
        return any(a <= address and address + size <= a + n for a, n in self.allocated.items())

    def _do(self, step: Step) -> None:
        (self.log if self.captured is None else self.captured).append(step)


def check_streams(steps: Sequence[Step]) -> None:
    joined, recorded = {MAIN}, dict[int, int]()
    for step in steps:
        match step:
            case Wait(event, stream):
                assert recorded[event] in joined, "an event of a stream outside the capture"
                joined.add(stream)
            case Record(event, stream):
                recorded[event] = stream
            case Launched():
                pass
        assert step.stream in joined, f"{step} is outside the capture"


def check_order(steps: Steps) -> None:
    """Asserts that no launch touches bytes that another may write meanwhile, nor reads bytes of the
    arena that no launch has written."""
    before: list[set[int]] = []
    for place, launch in enumerate(steps.launches):
        known = [p for p in range(place) if steps.launches[p].stream == launch.stream]
        direct = {*known[-1:], *launch.waits}
        before.append(direct.union(*(before[p] for p in direct)))
        for other in range(place):
            if other not in before[place]:
                assert not conflict(launch, steps.launches[other]), f"launch {place} and {other}"
        for argument in launch.arguments:
            if argument is None or argument.writes or argument.region is not Region.ARENA:
                continue
            writers = (a for other in before[place] for a in steps.launches[other].arguments)
            sums = (found.out for found in steps.sums if found.before <= place)
            written = any(
                theirs.writes and overlap(argument, theirs)
                for theirs in (*writers, *sums)
                if theirs is not None
            )
            assert written, f"launch {place} reads what is not written"


def conflict(one: Launch, other: Launch) -> bool:
    return any(
        a is not None and b is not None and (a.writes or b.writes) and overlap(a, b)
        for a in one.arguments
        for b in other.arguments
    )


def overlap(one: Argument, other: Argument) -> bool:
    return (
        one.region is other.region
        and one.offset < other.offset + other.size
        and other.offset < one.offset + one.size
    )


@dataclass
class InterpretingDevice(NullDevice):
    """Runs what it is asked for, stream by stream: the main one last where `side_first`, else the
    others only when somebody waits for them. Results must be the same."""

    side_first: bool = False
    kernels: dict[bytes, Kernel] = field(default_factory=dict)

    def finish(self) -> None:
        with ONE_AT_A_TIME:
            self._finish()

    def _finish(self) -> None:
        steps, self.log = self.log, []
        streams = sorted({step.stream for step in steps}, reverse=self.side_first)
        queues = {s: [step for step in steps if step.stream == s] for s in streams}
        recorded: set[int] = set()

        def advance(stream: int, until: int | None = None) -> None:
            """Does what a stream was given, up to an event or to the end."""
            queue = queues[stream]
            while queue and until not in recorded:
                match queue[0]:
                    case Wait(event, _) if event not in recorded:
                        owner = next(s for s in streams if Record(event, s) in queues[s])
                        advance(owner, event)
                        continue
                    case Record(event, _):
                        recorded.add(event)
                    case Launched() as launched:
                        self._run(launched)
                queue.pop(0)

        for stream in streams:
            advance(stream)

    def _run(self, launched: Launched) -> None:
        triton_interpreter.launch(
            self.file,
            self.kernels[launched.function],
            [a or None for a in launched.arguments],
            launched.grid,  # type: ignore[arg-type]
        )


def uncompiled(kernels: dict[bytes, Kernel]) -> Callable[[Kernel, Code], build.Binary]:
    """In place of the compiler: the code of a kernel is its name; `kernels` says which it is."""

    def compile(kernel: Kernel, code: Code) -> build.Binary:
        name = f"{code} {kernel!r}".encode()
        kernels[name] = kernel
        return build.Binary(name, kernel.function, kernel.warps, 0)

    return compile


def interpreted(module: ModuleOp, positions: int) -> tuple[Built, dict[bytes, Kernel]]:
    """The launch program of a scheduled module, for an InterpretingDevice with these kernels."""
    kernels: dict[bytes, Kernel] = {}
    built = build_programs([module], positions, (Code.SM_90,), uncompiled(kernels))
    return built, kernels
