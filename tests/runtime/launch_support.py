"""A launch program written by hand: what a GPU does for the toy model, if anything did it."""

from __future__ import annotations

import dataclasses
import hashlib

from runtime_support import CONTEXT, VOCAB

from sparsecomp.runtime.artifact import launch_member
from sparsecomp.runtime.launch import (
    SOURCE,
    Argument,
    Binary,
    Code,
    Count,
    Kernel,
    Launch,
    LaunchProgram,
    Piece,
    Region,
    Slot,
    Steps,
    UnitList,
    binary_member,
    cache_places,
    encode_program,
    state_bytes,
)

PROGRAM = launch_member()
TILE = 4
CODES = {Code.SM_80: 12000, Code.SM_90: 12000, Code.PTX: 12080}
SLOTS = (Slot(5, 3, None, None), Slot(1, 1, 3, 3 + TILE))
REGIONS = {
    Region.WEIGHTS: CONTEXT * 4,
    Region.ARENA: 256,
    Region.CACHE: cache_places(SLOTS, CONTEXT)[-1],
    Region.STATE: state_bytes(TILE),
    Region.LOGITS: VOCAB * 4,
    Region.LIMITS: 16,
    Region.COUNTS: 6 * 8,
}


def code_of(kernel: str, code: Code) -> bytes:
    return f"{code} of {kernel}".encode()


def kernel(name: str) -> Kernel:
    hashes = {code: hashlib.sha256(code_of(name, code)).hexdigest() for code in CODES}
    return Kernel(name, 4, {code: Binary(128, sha256) for code, sha256 in hashes.items()})


def read(region: Region, offset: int = 0, size: int = 64) -> Argument:
    return Argument(region, offset, size, False)


def write(region: Region, offset: int = 0, size: int = 64) -> Argument:
    return dataclasses.replace(read(region, offset, size), writes=True)


STATE = read(Region.STATE, 0, state_bytes(TILE))
ARENA, LOGITS = Region.ARENA, Region.LOGITS
FIRST = Launch("first", (2, 1, 1), 0, (), (STATE, read(Region.WEIGHTS), write(ARENA)))
DECODE = (
    FIRST,
    # A prediction beside other work.
    Launch("second", (1, 1, 1), 1, (0,), (read(ARENA), None, write(ARENA, 64))),
    Launch("first", (2, 1, 1), 0, (), (STATE, read(ARENA), write(ARENA, 128))),
    Launch("second", (1, 3, 1), 0, (1,), (read(ARENA, 64), read(ARENA, 128), write(LOGITS))),
)
PREFILL = (FIRST, Launch("second", (1, 1, 1), 0, (), (read(ARENA), None, write(LOGITS))))

TOY = LaunchProgram(
    drivers=CODES,
    tile=TILE,
    positions=CONTEXT,
    streams=2,
    regions=REGIONS,
    weights=(Piece(0, 0, CONTEXT * 4),),
    slots=SLOTS,
    kernels={name: kernel(name) for name in ("first", "second")},
    prefill=Steps(PREFILL, always=1),
    decode=Steps(DECODE, always=4),
    counters=4,
    counts=(Count(2, 0, 3, 1), Count(1, 4, 2, 10)),
    limits=(0.25, 1.5),
    trace_slots=8,
    lists=(UnitList(1, 128, 2, 4),),
)


def members(program: LaunchProgram = TOY) -> dict[str, bytes]:
    """The members of an artifact with this program, but for its IR."""
    binaries = {
        binary_member(code, name): code_of(name, code)
        for name in program.kernels
        for code in program.drivers
    }
    return binaries | {PROGRAM: encode_program(program, PROGRAM), SOURCE: b"# kernels\n"}
