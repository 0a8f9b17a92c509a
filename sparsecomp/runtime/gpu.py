"""Runs a launch program on a device: weights once, memory for each session, a graph for a decode.

All that a launch needs is constant, so a decode step is captured the first time and replayed from
then on; a prompt goes through tile by tile. Between steps only the state changes. Of a program for
several ranks what lies between two sums is captured: the sums are the host's to make.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.device import Device, Loaded, OutOfMemory
from sparsecomp.runtime.launch import (
    CAPACITY,
    COUNT_BYTES,
    FIRST_TOKEN,
    FULL_LOGITS,
    POSITION,
    ROWS,
    Argument,
    LaunchProgram,
    Region,
    Steps,
    Sum,
    cache_places,
)
from sparsecomp.runtime.manifest import KV_COUNTER, OWN_COUNTERS, TOKENS_COUNTER
from sparsecomp.runtime.native import Exchange

FLOAT = 4
REGION_ALIGN = 256
"""Bytes: each region of a session starts at a multiple of it."""
OWN_REGIONS = (
    Region.ARENA,
    Region.CACHE,
    Region.STATE,
    Region.LOGITS,
    Region.LIMITS,
    Region.COUNTS,
)
"""Those that every session has for itself."""


@dataclass(frozen=True)
class _Part:
    """Launches of a step, by their places, and the sums over ranks that are made behind them."""

    places: range
    sums: tuple[Sum, ...]


@dataclass
class _Sequence:
    """A session: where its regions are, where in its cache is what the program says begins
    elsewhere, how many positions it holds, and what is counted without its regions."""

    addresses: Mapping[Region, int]
    cache: Mapping[int, int]
    capacity: int
    graphs: list[Any] = field(default_factory=list)
    exchange: Exchange | None = None
    trace: npt.NDArray[np.int32] | None = None
    counted: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(OWN_COUNTERS, np.int64))


class GpuProgram:
    """An engine. The handle of a model is the address of its weights, that of a session the address
    of its memory."""

    steps: Sequence[tuple[str, str]] = ()

    def __init__(
        self, program: LaunchProgram, functions: Mapping[str, Loaded], device: Device
    ) -> None:
        """`functions` are the program's kernels by name, loaded on `device`."""
        self._program = program
        self._decode_parts = parts_of(program.decode, len(program.decode.launches))
        self._functions = functions
        self._device = device
        self._sessions: dict[int, _Sequence] = {}
        self._lock = threading.Lock()

    def open_model(self, weights_address: int) -> int:
        size = self._program.regions[Region.WEIGHTS]
        with self._lock:
            address = self._device.allocate(size)
            for piece in self._program.weights:
                source = weights_address + piece.source
                self._device.write(address + piece.offset, source, piece.size)
        return address

    def close_model(self, model: int) -> None:
        with self._lock:
            self._device.free(model)

    def open_session(self, model: int, capacity: int) -> int:
        """Raises OutOfMemory when memory is short."""
        program = self._program
        places = cache_places(program.slots, capacity)
        sizes = {**program.regions, Region.CACHE: places[-1]}
        offsets, size = {}, 0
        for region in OWN_REGIONS:
            offsets[region] = size
            size += region_bytes(sizes[region])
        with self._lock:
            try:
                memory = self._device.allocate(size)
            except OutOfMemory as error:
                raise OutOfMemory(
                    f"{error}, for a session of {capacity} positions; give a smaller capacity"
                ) from None
            own = {region: memory + offset for region, offset in offsets.items()}
            limits = np.array(program.limits, np.float32)
            zeros = np.zeros(sizes[Region.COUNTS], np.uint8)
            for region, values in ((Region.LIMITS, limits), (Region.COUNTS, zeros)):
                self._device.write(own[region], values.ctypes.data, values.nbytes)
            moved = dict(zip(cache_places(program.slots, program.positions), places, strict=True))
            self._sessions[memory] = _Sequence({Region.WEIGHTS: model} | own, moved, capacity)
        return memory

    def close_session(self, session: int) -> None:
        with self._lock:
            for graph in self._sessions.pop(session).graphs:
                self._device.drop(graph)
            self._device.free(session)

    def exchange(self, session: int, exchange: Exchange) -> None:
        with self._lock:
            self._sessions[session].exchange = exchange

    def prefill(
        self,
        session: int,
        tokens: npt.NDArray[np.int32],
        position: int,
        logits: npt.NDArray[np.float32] | None,
    ) -> None:
        steps, tile = self._program.prefill, self._program.tile
        with self._lock:
            sequence = self._sessions[session]
            for start in range(0, len(tokens), tile):
                some = tokens[start : start + tile]
                self._set_state(sequence, some, position + start, True)
                wanted = logits is not None and start + tile >= len(tokens)
                count = len(steps.launches) if wanted else steps.always
                for part in parts_of(steps, count):
                    self._launch(sequence, steps, part.places)
                    self._add_up(sequence, part, len(some))
            if logits is not None:
                self._read_logits(sequence, logits)

    def decode(
        self,
        session: int,
        token: int,
        position: int,
        logits: npt.NDArray[np.float32],
        full_logits: bool,
    ) -> None:
        steps = self._program.decode
        with self._lock:
            sequence = self._sessions[session]
            self._set_state(sequence, np.array([token], np.int32), position, full_logits)
            parts = self._decode_parts
            if not sequence.graphs:
                sequence.graphs = [self._captured(sequence, steps, p.places) for p in parts]
            for graph, part in zip(sequence.graphs, parts, strict=True):
                self._device.replay(graph)
                self._add_up(sequence, part, 1)
            self._read_logits(sequence, logits)
            self._read_lists(sequence)
            sequence.counted[TOKENS_COUNTER] += 1
            sequence.counted[KV_COUNTER] += self._program.uncounted_bytes(position)

    def counters(self, session: int, out: npt.NDArray[np.int64]) -> None:
        """Raises SparsecompError when the program has not as many."""
        if len(out) != self._program.counters:
            raise SparsecompError("its CUDA program has not the counters that its manifest says")
        counts = np.zeros(self._program.regions[Region.COUNTS] // COUNT_BYTES, np.int64)
        with self._lock:
            sequence = self._sessions[session]
            address = sequence.addresses[Region.COUNTS]
            self._device.read(counts.ctypes.data, address, counts.nbytes)
            out[:] = 0
            out[:OWN_COUNTERS] = sequence.counted
        for count in self._program.counts:
            found = counts[count.first : count.first + count.size]
            out[count.counter] += count.unit * found.sum()

    def trace(self, session: int, room: npt.NDArray[np.int32] | None) -> None:
        if room is not None and len(room) != self._program.trace_slots:
            raise SparsecompError("its CUDA program has not the trace slots that its manifest says")
        with self._lock:
            self._sessions[session].trace = room

    def profile(self, session: int, ticks: npt.NDArray[np.int64] | None) -> None:
        if ticks is not None:
            raise SparsecompError(
                "only a program for the CPU times its kernels; load it with device='cpu'"
            )

    def _set_state(
        self,
        sequence: _Sequence,
        tokens: npt.NDArray[np.int32],
        position: int,
        full_logits: bool,
    ) -> None:
        state = np.zeros(FIRST_TOKEN + len(tokens), np.int32)
        state[POSITION], state[ROWS], state[FULL_LOGITS] = position, len(tokens), full_logits
        state[CAPACITY] = sequence.capacity
        state[FIRST_TOKEN:] = tokens
        address = sequence.addresses[Region.STATE]
        self._device.write(address, state.ctypes.data, state.nbytes)

    def _launch(self, sequence: _Sequence, steps: Steps, places: range) -> None:
        """The launches of these places. One that others wait for is an event by its place."""
        launches = steps.launches[places.start : places.stop]
        awaited = {wait for launch in launches for wait in launch.waits}
        for place, launch in zip(places, launches, strict=True):
            for wait in launch.waits:
                self._device.wait(wait, launch.stream)
            loaded = self._functions[launch.kernel]
            arguments = [_address(sequence, argument) for argument in launch.arguments]
            self._device.launch(
                loaded.function,
                launch.grid,
                loaded.threads,
                loaded.shared,
                arguments,
                launch.stream,
            )
            if place in awaited:
                self._device.record(place, launch.stream)

    def _add_up(self, sequence: _Sequence, part: _Part, tokens: int) -> None:
        """The sums over ranks when a part is done, of a step of so many tokens."""
        exchange = sequence.exchange
        for found in part.sums:
            assert exchange is not None, "a rank alone"
            count = (tokens if found.each_token else 1) * found.width
            size, out = FLOAT * count, _address(sequence, found.out)
            if exchange.is_on_gpu:
                if found.x is None:
                    self._device.clear(out, size)
                else:
                    self._device.copy(out, _address(sequence, found.x), size)
                self._device.finish()
                exchange.add_up_on_gpu(out, count)
                continue
            values = np.zeros(count, np.float32)
            if found.x is not None:
                self._device.read(values.ctypes.data, _address(sequence, found.x), size)
            exchange.add_up(values)
            self._device.write(out, values.ctypes.data, size)

    def _captured(self, sequence: _Sequence, steps: Steps, places: range) -> Any:
        self._device.begin_capture()
        try:
            self._launch(sequence, steps, places)
        finally:
            graph = self._device.end_capture()
        return graph

    def _read_logits(self, sequence: _Sequence, logits: npt.NDArray[np.float32]) -> None:
        address = sequence.addresses[Region.LOGITS]
        self._device.read(logits.ctypes.data, address, logits.nbytes)

    def _read_lists(self, sequence: _Sequence) -> None:
        """Fills the trace, where one is asked for."""
        if sequence.trace is None:
            return
        for units in self._program.lists:
            numbers = np.empty(units.numbers, np.int32)
            address = sequence.addresses[Region.ARENA] + units.offset
            self._device.read(numbers.ctypes.data, address, numbers.nbytes)
            held, entries = np.split(numbers, [units.segments])
            there = np.arange(units.size) < held[:, None]
            chosen = entries.reshape(units.segments, units.size)[there]
            sequence.trace[units.slot] = len(chosen)
            sequence.trace[units.slot + 1 :][: len(chosen)] = chosen


def parts_of(steps: Steps, count: int) -> list[_Part]:
    """The first `count` launches, cut where sums are made."""
    sums: dict[int, list[Sum]] = {count: []}
    for found in steps.sums:
        sums.setdefault(min(found.before, count), []).append(found)
    ends = sorted(sums)
    return [_Part(range(*at), tuple(sums[at[1]])) for at in pairwise((0, *ends))]


def region_bytes(size: int) -> int:
    """What a session takes for a region of so many bytes."""
    return -(-size // REGION_ALIGN) * REGION_ALIGN


def _address(sequence: _Sequence, argument: Argument | None) -> int:
    if argument is None:
        return 0
    is_cache = argument.region is Region.CACHE
    offset = sequence.cache[argument.offset] if is_cache else argument.offset
    return sequence.addresses[argument.region] + offset
