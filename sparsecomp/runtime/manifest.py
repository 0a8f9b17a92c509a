"""manifest.json: what an artifact says about itself, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.strict import (
    NonNegative,
    Positive,
    Range,
    Share,
    check_version,
    decode,
    parse_json_object,
)

FORMAT = "sparsecomp"
FORMAT_VERSION = 2
ABI_VERSION = 2
"""Version of the C interface between the runtime and a native program (`sc_abi_version`)."""


class Dtype(enum.StrEnum):
    """How weights and the KV cache are stored."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


class Target(enum.StrEnum):
    """Instruction sets that a native program may be compiled for."""

    X86_64_V3 = "x86-64-v3"
    X86_64_V4 = "x86-64-v4"
    NATIVE = "native"
    AARCH64 = "aarch64"


class Machine(enum.StrEnum):
    """Processor families, as `platform.machine()` spells them on Linux."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


class Part(enum.StrEnum):
    """Parts of a model that a decode step's bytes are counted by."""

    EMBED = "embed"
    ATTENTION = "attention"
    MLP = "mlp"
    PREDICTORS = "predictors"
    HEAD = "head"
    OTHER = "other"


@dataclass(frozen=True)
class Member:
    """Size in bytes and lower-case hex SHA-256 of one member of the artifact."""

    size: NonNegative
    sha256: str


@dataclass(frozen=True)
class Program:
    """One native program: `cpu_flags` are the names in /proc/cpuinfo that it needs."""

    target: Target
    machine: Machine
    cpu_flags: tuple[str, ...]
    member: str
    workers: Positive
    abi_version: Positive


@dataclass(frozen=True)
class ModelFacts:
    """The model that was compiled.

    `context` is the largest number of positions. `rewind_limit` is how many positions below the
    furthest one reached a session can go back to (None: all of them): sliding-window layers
    keep only a ring of positions.
    """

    name: str
    vocab_size: Positive
    context: Positive
    layers: NonNegative
    hidden: Positive
    parameters: NonNegative
    dtype: Dtype
    eos_token_ids: tuple[NonNegative, ...]
    bos_token_id: NonNegative | None
    rewind_limit: NonNegative | None


class BlockKind(enum.StrEnum):
    """Kinds of blocks that a decode step may read a part of."""

    MLP = "mlp"
    ATTENTION = "attention"


@dataclass(frozen=True)
class Block:
    """An MLP or an attention of which each decode step reads the chosen units alone.

    `module` is its path in the model; its units are neurons or heads. `density` is the expected
    share of units chosen, `active` of those read beyond their first product besides.
    `chosen_bytes` of weights are read for each chosen unit, and `active_bytes` more for each one
    read further; its predictor reads `predictor_bytes` a token.
    `chosen_counter` and `active_counter` are where the program counts the two (None: nothing is
    read further). Its list lies at `trace` in a trace, in 4-byte slots.
    """

    module: str
    kind: BlockKind
    units: Positive
    density: Share
    active: Share
    chosen_bytes: NonNegative
    active_bytes: NonNegative
    predictor_bytes: NonNegative
    chosen_counter: NonNegative
    active_counter: NonNegative | None
    trace: NonNegative

    @property
    def part(self) -> Part:
        """What the bytes of its units count as."""
        return Part(self.kind.value)


TOKENS_COUNTER = 0
"""Where a program counts the tokens decoded."""
KV_COUNTER = 1
"""Where it counts the bytes of keys and values read."""
OWN_COUNTERS = 2
"""How many counters are no block's."""


@dataclass(frozen=True)
class Manifest:
    """Everything in manifest.json.

    `bytes_per_token`: bytes of weights that one decode step is expected to read, by part of the
    model; `dense_bytes_per_token`: were every block read whole, without predictors;
    `fixed_bytes_per_token`: without what is read of `blocks` as units are chosen.
    `blocks`: the sparse ones, in order. `counters`: how many a program has. `trace_slots`: 4-byte
    slots of one step's lists of all blocks.
    `kv_bytes_per_position`: bytes of KV cache that one position takes.
    `weights_bytes`: bytes of the data section of weights.safetensors.
    `members`: every member but the manifest itself; the writer fills it in.
    """

    compiler_version: str
    model: ModelFacts
    programs: tuple[Program, ...]
    bytes_per_token: Mapping[Part, NonNegative]
    dense_bytes_per_token: Mapping[Part, NonNegative]
    fixed_bytes_per_token: Mapping[Part, NonNegative]
    blocks: tuple[Block, ...]
    counters: Annotated[int, Range(OWN_COUNTERS, 1 << 20)]
    trace_slots: Annotated[int, Range(0, 1 << 28)]
    kv_bytes_per_position: NonNegative
    weights_bytes: NonNegative
    members: Mapping[str, Member] = dataclasses.field(default_factory=dict)


def program_member(target: Target) -> str:
    """Name of the member that holds the native program for `target`."""
    return f"native/{target.value}.so"


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON text of a manifest, checked by reading it back. Raises SparsecompError."""
    document = {"format": FORMAT, "format_version": FORMAT_VERSION}
    document.update(dataclasses.asdict(manifest))
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    parse_manifest(text)
    return text


def parse_manifest(text: bytes) -> Manifest:
    """Reads and checks manifest.json. Raises SparsecompError naming the field that is wrong."""
    document = parse_json_object(text)
    if document.pop("format", None) != FORMAT:
        raise SparsecompError(f'format: is not "{FORMAT}"')
    check_version(document, FORMAT_VERSION)
    manifest: Manifest = decode(Manifest, document)
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    model = manifest.model
    for field, ids in (
        ("eos_token_ids", model.eos_token_ids),
        ("bos_token_id", () if model.bos_token_id is None else (model.bos_token_id,)),
    ):
        for token in ids:
            if token >= model.vocab_size:
                raise SparsecompError(
                    f"model.{field}: {token} is not below vocab_size {model.vocab_size}"
                )
    if not manifest.programs:
        raise SparsecompError("programs: is empty")
    if len({program.target for program in manifest.programs}) != len(manifest.programs):
        raise SparsecompError("programs: a target is given twice")
    for i, program in enumerate(manifest.programs):
        if program.member != program_member(program.target):
            raise SparsecompError(
                f"programs[{i}].member: is {program.member!r}, "
                f"must be {program_member(program.target)!r}"
            )
    for i, block in enumerate(manifest.blocks):
        for index in (block.chosen_counter, block.active_counter):
            if index is not None and not OWN_COUNTERS <= index < manifest.counters:
                raise SparsecompError(
                    f"blocks[{i}]: counter {index} is not one of the program's {manifest.counters}"
                )
        if block.trace + 1 + block.units > manifest.trace_slots:
            raise SparsecompError(f"blocks[{i}].trace: its list does not fit the trace")
    for name, member in manifest.members.items():
        if not re.fullmatch("[0-9a-f]{64}", member.sha256):
            raise SparsecompError(f"members.{name}.sha256: is not a SHA-256 in hex")
