"""cuda/program.json: the launches of a GPU program, as frozen dataclasses.

All about a launch is constant; what changes from step to step lies in the state, so that a step can
be captured once and replayed: as a whole, or from one sum over ranks to the next. Memory is seven
regions: the weights that the program reads, piece by piece from the artifact, and for each session
an arena of buffers, the KV cache, the state, the logits, what scores are compared with and what is
counted. A session may hold fewer positions than the program; then keys and values begin earlier in
its cache than is said here.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.strict import (
    NonNegative,
    Positive,
    Range,
    check_version,
    decode,
    parse_json_object,
)

LAUNCH_VERSION = 3
"""Version of this file, and of what kernels find in the state."""

POSITION, ROWS, FULL_LOGITS, CAPACITY, FIRST_TOKEN = 0, 1, 2, 3, 8
"""Where the state, int32, has the position of its first row, how many rows there are, whether the
caller wants all logits exact, how many positions the session holds, and the first row's token."""

CACHE_ALIGN = 256
"""Bytes: keys and values start at multiples of it."""

COUNT_BYTES = 8
WARP = 32
MAX_GRID = (2**31 - 1, 65535, 65535)


class Region(enum.StrEnum):
    """Memory that arguments point into."""

    WEIGHTS = "weights"
    ARENA = "arena"
    CACHE = "cache"
    STATE = "state"
    LOGITS = "logits"
    LIMITS = "limits"
    """f32 each, the program's `limits`."""
    COUNTS = "counts"
    """int64 each, from 0 on: a decode step adds to them, one program to each."""


class Code(enum.StrEnum):
    """What kernels are compiled to: code of one architecture, or PTX for any from sm_80 on."""

    SM_80 = "sm_80"
    SM_90 = "sm_90"
    SM_100 = "sm_100"
    PTX = "ptx"

    @property
    def suffix(self) -> str:
        """That of the names of its members."""
        return "ptx" if self is Code.PTX else "cubin"


SOURCE = "cuda/kernels.py"


def binary_member(code: Code, kernel: str) -> str:
    """Name of the member with a kernel's code."""
    return f"cuda/{code}/{kernel}.{code.suffix}"


BINARY_MEMBER = re.compile(r"cuda/(sm_80|sm_90|sm_100)/\w{1,80}\.cubin|cuda/ptx/\w{1,80}\.ptx")


@dataclass(frozen=True)
class Binary:
    """A kernel's code of one kind: its bytes of shared memory, and hex SHA-256."""

    shared: NonNegative
    sha256: str


@dataclass(frozen=True)
class Kernel:
    """A kernel: the name of its function, and for each kind of code what it takes."""

    entry: str
    warps: Annotated[int, Range(1, 32)]
    binaries: Mapping[Code, Binary]


@dataclass(frozen=True)
class Argument:
    """A pointer: `offset` bytes into a region, of which the kernel may touch `size` from there."""

    region: Region
    offset: NonNegative
    size: NonNegative
    writes: bool


@dataclass(frozen=True)
class Launch:
    """One kernel over a grid. `waits` are earlier launches of other streams, by their places, that
    must be done before; null arguments are null pointers."""

    kernel: str
    grid: tuple[Positive, ...]
    stream: NonNegative
    waits: tuple[NonNegative, ...]
    arguments: tuple[Argument | None, ...]


@dataclass(frozen=True)
class Sum:
    """Rows of `width` floats at `out`, one for each token or one in all, become their sums over all
    ranks, when the launches before the one at `before` are done. This rank gives those at `x`
    (null: it adds nothing)."""

    before: NonNegative
    width: Positive
    each_token: bool
    x: Argument | None
    out: Argument


@dataclass(frozen=True)
class Steps:
    """The launches of one step, in order. The first `always` are made even for a caller that wants
    no logits. `sums` are in order, too: the same on all ranks. With sums there is one stream."""

    launches: tuple[Launch, ...]
    always: NonNegative
    sums: tuple[Sum, ...] = ()


@dataclass(frozen=True)
class Piece:
    """`size` bytes from `source` in the artifact's weights lie at `offset` of their region."""

    source: NonNegative
    offset: NonNegative
    size: NonNegative


@dataclass(frozen=True)
class Slot:
    """Keys and values of one attention: bytes of a position's, positions attended to (None: all),
    and positions kept, over and over (None: as many as the session holds). `counted`: what is read
    depends on the heads that are chosen, so a step counts it."""

    key_bytes: NonNegative
    value_bytes: NonNegative
    window: Positive | None
    ring: Positive | None
    counted: bool = False

    @property
    def position_bytes(self) -> int:
        return self.key_bytes + self.value_bytes

    def bytes_read(self, position: int) -> int:
        """Of all heads by a decode step at `position`."""
        length = position + 1 if self.window is None else min(position + 1, self.window)
        return length * self.position_bytes


def cache_places(slots: Sequence[Slot], capacity: int) -> tuple[int, ...]:
    """Where the keys and the values of each slot begin in the cache of a session of so many
    positions; last, how large it is."""
    places = [0]
    for slot in slots:
        kept = capacity if slot.ring is None else slot.ring
        for size in (slot.key_bytes, slot.value_bytes):
            places.append(places[-1] + math.ceil(kept * size / CACHE_ALIGN) * CACHE_ALIGN)
    return tuple(places)


@dataclass(frozen=True)
class Count:
    """`size` counts from the one at `first` on: their sum, times `unit`, belongs to the manifest's
    `counter`."""

    counter: NonNegative
    first: NonNegative
    size: Positive
    unit: Positive


@dataclass(frozen=True)
class UnitList:
    """A list of chosen units at the end of a decode step, int32: `offset` bytes into the arena lies
    how many each of its segments holds, then the segments, `size` apart. In a trace it is in order,
    from `slot` on.
    """

    slot: NonNegative
    offset: NonNegative
    segments: Positive
    size: Positive

    @property
    def numbers(self) -> int:
        """How many it has room for, those of its segments included."""
        return self.segments * (1 + self.size)


@dataclass(frozen=True)
class LaunchProgram:
    """Everything in cuda/program.json.

    `drivers` is the CUDA version that a driver must have for each kind of code, 12080 for 12.8.
    `weights` are what lies in the region of that name. `tile` is how many tokens of a prompt a
    step takes at most, `positions` what a session holds at most, `regions` the bytes of each
    region, the cache with all positions. `counters` and `trace_slots` are as many as the manifest
    describes, `counts` what kernels add up for the ones, `lists` what the others show. `limits` are
    the numbers of that region.
    """

    drivers: Mapping[Code, Positive]
    tile: Positive
    positions: Positive
    streams: Annotated[int, Range(1, 8)]
    regions: Mapping[Region, NonNegative]
    weights: tuple[Piece, ...]
    slots: tuple[Slot, ...]
    kernels: Mapping[str, Kernel]
    prefill: Steps
    decode: Steps
    counters: NonNegative
    counts: tuple[Count, ...]
    limits: tuple[float, ...]
    trace_slots: NonNegative
    lists: tuple[UnitList, ...]

    def kv_bytes(self, position: int) -> int:
        """Bytes of keys and values that a decode step at `position` reads at most."""
        return sum(slot.bytes_read(position) for slot in self.slots)

    def uncounted_bytes(self, position: int) -> int:
        """Those that no kernel counts."""
        return sum(slot.bytes_read(position) for slot in self.slots if not slot.counted)


def state_bytes(tile: int) -> int:
    return 4 * (FIRST_TOKEN + tile)


def encode_program(program: LaunchProgram, member: str) -> bytes:
    """JSON text of a program, checked by reading it back. Raises as `parse_program`."""
    document = {"format_version": LAUNCH_VERSION} | dataclasses.asdict(program)
    text = json.dumps(document, indent=None, separators=(",", ":")).encode() + b"\n"
    parse_program(text, member)
    return text


def parse_program(text: bytes, member: str) -> LaunchProgram:
    """Reads and checks a program: no launch that it describes points out of its region.

    Raises SparsecompError naming the `member` of the artifact and the field that is wrong.
    """
    try:
        document = parse_json_object(text)
        check_version(document, LAUNCH_VERSION)
        program: LaunchProgram = decode(LaunchProgram, document)
        _check(program)
    except SparsecompError as error:
        raise SparsecompError(f"member {member!r}: {error}") from None
    return program


def _check(program: LaunchProgram) -> None:
    if missing := [region for region in Region if region not in program.regions]:
        raise SparsecompError(f"regions: has no {missing[0]}")
    if program.regions[Region.STATE] != state_bytes(program.tile):
        raise SparsecompError("regions.state: is not that of the tile")
    if program.regions[Region.CACHE] != cache_places(program.slots, program.positions)[-1]:
        raise SparsecompError("regions.cache: is not that of the slots")
    if Code.PTX not in program.drivers:
        raise SparsecompError("drivers: has no ptx")
    ends = (piece.offset + piece.size for piece in program.weights)
    if program.regions[Region.WEIGHTS] != max(ends, default=0):
        raise SparsecompError("regions.weights: is not that of the weights")
    for name, kernel in program.kernels.items():
        if kernel.binaries.keys() != program.drivers.keys():
            raise SparsecompError(f"kernels.{name}.binaries: are not those of drivers")
        for code, binary in kernel.binaries.items():
            if not re.fullmatch("[0-9a-f]{64}", binary.sha256):
                raise SparsecompError(f"kernels.{name}.{code}: is not a SHA-256 in hex")
            if not BINARY_MEMBER.fullmatch(binary_member(code, name)):
                raise SparsecompError(f"kernels: {name!r} is no name of a kernel")
    if 4 * len(program.limits) > program.regions[Region.LIMITS]:
        raise SparsecompError("limits: are more than their region holds")
    for place, count in enumerate(program.counts):
        if count.counter >= program.counters:
            raise SparsecompError(
                f"counts[{place}].counter: is {count.counter}, of {program.counters}"
            )
        if (count.first + count.size) * COUNT_BYTES > program.regions[Region.COUNTS]:
            raise SparsecompError(f"counts[{place}]: ends beyond the region")
    for place, units in enumerate(program.lists):
        if units.slot >= program.trace_slots:
            raise SparsecompError(f"lists[{place}].slot: is beyond {program.trace_slots}")
        if units.offset + 4 * units.numbers > program.regions[Region.ARENA]:
            raise SparsecompError(f"lists[{place}]: ends beyond the arena")
    for name, steps in (("prefill", program.prefill), ("decode", program.decode)):
        if steps.always > len(steps.launches):
            raise SparsecompError(f"{name}.always: is beyond its launches")
        for place, launch in enumerate(steps.launches):
            try:
                _check_launch(program, steps, place, launch)
            except SparsecompError as error:
                raise SparsecompError(f"{name}.launches[{place}]{error}") from None
        for place in range(len(steps.sums)):
            try:
                _check_sum(program, steps, place)
            except SparsecompError as error:
                raise SparsecompError(f"{name}.sums[{place}]{error}") from None


def _check_sum(program: LaunchProgram, steps: Steps, place: int) -> None:
    found = steps.sums[place]
    rows = program.tile if found.each_token and steps is program.prefill else 1
    if program.streams > 1:
        raise SparsecompError(f": there are {program.streams} streams")
    if not (steps.sums[place - 1].before if place else 0) <= found.before <= len(steps.launches):
        raise SparsecompError(".before: is not in order, or beyond the launches")
    for name, argument in (("x", found.x), ("out", found.out)):
        if argument is None:
            continue
        if argument.region is not Region.ARENA or argument.writes != (name == "out"):
            raise SparsecompError(f".{name}: is not what a sum may touch")
        size = program.regions[argument.region]
        if argument.offset + argument.size > size:
            raise SparsecompError(
                f".{name}: ends at {argument.offset + argument.size} of {size} bytes of the arena"
            )
        if argument.size < 4 * rows * found.width:
            raise SparsecompError(f".{name}: has not {rows} rows of {found.width}")


def _check_launch(program: LaunchProgram, steps: Steps, place: int, launch: Launch) -> None:
    if launch.kernel not in program.kernels:
        raise SparsecompError(f".kernel: there is no {launch.kernel!r}")
    if len(launch.grid) != len(MAX_GRID):
        raise SparsecompError(".grid: has not three sizes")
    if any(size > most for size, most in zip(launch.grid, MAX_GRID, strict=True)):
        raise SparsecompError(f".grid: is beyond {MAX_GRID}")
    if launch.stream >= program.streams:
        raise SparsecompError(f".stream: is {launch.stream}, there are {program.streams}")
    for wait in launch.waits:
        if wait >= place or steps.launches[wait].stream == launch.stream:
            raise SparsecompError(f".waits: {wait} is no earlier launch of another stream")
    for i, argument in enumerate(launch.arguments):
        if argument is None:
            continue
        size = program.regions[argument.region]
        if argument.offset + argument.size > size:
            raise SparsecompError(
                f".arguments[{i}]: ends at {argument.offset + argument.size} of "
                f"{size} bytes of {argument.region}"
            )
        places = cache_places(program.slots, program.positions)
        if argument.region is Region.CACHE and argument.offset not in places[:-1]:
            raise SparsecompError(f".arguments[{i}]: is no beginning of keys or values")
        if argument.writes and argument.region in (Region.WEIGHTS, Region.STATE, Region.LIMITS):
            raise SparsecompError(f".arguments[{i}]: writes to the {argument.region}")
