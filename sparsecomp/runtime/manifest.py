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
from sparsecomp.runtime.launch import LAUNCH_VERSION, Code
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
FORMAT_VERSION = 5
ABI_VERSION = 5
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
    """One native program: `cpu_flags` are the names in /proc/cpuinfo that it needs. `rank` is whose
    shard it runs; 0 where the model is whole."""

    target: Target
    machine: Machine
    cpu_flags: tuple[str, ...]
    member: str
    workers: Positive
    abi_version: Positive
    rank: NonNegative = 0


@dataclass(frozen=True)
class CudaProgram:
    """The program for NVIDIA GPUs (launch.py): the kinds of code that its kernels are compiled to,
    and the version of its launches."""

    codes: tuple[Code, ...]
    launch_version: Positive


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
    HEAD = "head"


@dataclass(frozen=True)
class CoarseUnits:
    """The neurons of a block that count as their coarse values, or the rows of a head that are
    scored a second time before some of them are chosen: their expected share, what is read for that
    of each, and where the program counts them."""

    density: Share
    bytes: NonNegative
    counter: NonNegative


@dataclass(frozen=True)
class Block:
    """An MLP, an attention or a head of which each decode step reads the chosen units alone.

    `module` is its path in the model; its units are neurons, heads, or rows of the vocabulary: only
    the logits of chosen rows are exact, the others approximate. `fewest` units are chosen at least.
    `density` is the expected share of units chosen, `active` of those read beyond their first
    product besides.
    `chosen_bytes` of weights are read for each chosen unit, and `active_bytes` more for each one
    read further; its predictor reads `predictor_bytes` a token.
    `chosen_counter` and `active_counter` are where the program counts the two (None: nothing is
    read further). Its list lies at `trace` in a trace, in 4-byte slots. `coarse` are units of which
    less is read, see CoarseUnits (None: there are none such).
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
    coarse: CoarseUnits | None = None
    fewest: NonNegative = 0

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


MAX_SHARDS = 64


@dataclass(frozen=True)
class Shard:
    """One rank's part of a model that is split: what differs from rank to rank.

    Its program gives `logits` scores, of the tokens from `first_token` on: all of them on every
    rank where the head is not split. The other fields are a manifest's of the same names.
    """

    first_token: NonNegative
    logits: Positive
    bytes_per_token: Mapping[Part, NonNegative]
    dense_bytes_per_token: Mapping[Part, NonNegative]
    fixed_bytes_per_token: Mapping[Part, NonNegative]
    blocks: tuple[Block, ...]
    counters: Annotated[int, Range(OWN_COUNTERS, 1 << 20)]
    trace_slots: Annotated[int, Range(0, 1 << 28)]
    kv_bytes_per_position: NonNegative


@dataclass(frozen=True)
class Manifest:
    """Everything in manifest.json.

    `shards`: the parts of a model that is split over as many ranks, which run together; empty
    where it is whole. What is said below of one program is then said of rank 0's.

    `bytes_per_token`: bytes of weights that one decode step is expected to read, by part of the
    model; `dense_bytes_per_token`: were every block read whole, from weights as they are stored,
    without predictors;
    `fixed_bytes_per_token`: without what is read of `blocks` as units are chosen.
    `blocks`: the sparse ones, in order. `counters`: how many a program has. `trace_slots`: 4-byte
    slots of one step's lists of all blocks.
    `kv_bytes_per_position`: bytes of KV cache that one position takes.
    `weights_bytes`: bytes of the data section of weights.safetensors.
    `programs` are for CPUs; there may be none where there is one for GPUs, `cuda`.
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
    cuda: CudaProgram | None = None
    shards: tuple[Shard, ...] = ()
    members: Mapping[str, Member] = dataclasses.field(default_factory=dict)

    @property
    def ranks(self) -> int:
        """How many run together."""
        return max(len(self.shards), 1)

    @property
    def exact_logits(self) -> int:
        """How many logits of a decode step are exact at least, the largest: all but for a sketched
        head."""
        heads = [block for block in self.blocks if block.kind is BlockKind.HEAD]
        return min((block.fewest for block in heads), default=self.model.vocab_size)

    def of_rank(self, rank: int) -> Manifest:
        """What is said of one rank: its programs, its bytes, its blocks."""
        if not self.shards:
            return self
        own = dict(vars(self.shards[rank]))
        del own["first_token"], own["logits"]
        programs = tuple(program for program in self.programs if program.rank == rank)
        return dataclasses.replace(self, programs=programs, **own)


def program_member(target: Target, rank: int = 0) -> str:
    """Name of the member that holds the native program of a rank for `target`."""
    return f"native/{target.value}{of_rank(rank)}.so"


def of_rank(rank: int) -> str:
    """What tells a rank's members from rank 0's, which have the names of a whole model's."""
    return f".r{rank}" if rank else ""


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
    if not manifest.programs and manifest.cuda is None:
        raise SparsecompError("programs: is empty")
    if manifest.cuda is not None:
        _check_cuda(manifest, manifest.cuda)
    if len({program.member for program in manifest.programs}) != len(manifest.programs):
        raise SparsecompError("programs: a target is given twice")
    for i, program in enumerate(manifest.programs):
        if program.member != program_member(program.target, program.rank):
            raise SparsecompError(
                f"programs[{i}].member: is {program.member!r}, "
                f"must be {program_member(program.target, program.rank)!r}"
            )
    if len(manifest.shards) == 1 or len(manifest.shards) > MAX_SHARDS:
        raise SparsecompError(f"shards: there are {len(manifest.shards)}, at most {MAX_SHARDS} fit")
    ranks = {program.rank for program in manifest.programs}
    if manifest.programs and ranks != set(range(manifest.ranks)):
        raise SparsecompError(f"programs: not of each of {manifest.ranks} ranks")
    for i, shard in enumerate(manifest.shards):
        if shard.first_token + shard.logits > model.vocab_size:
            raise SparsecompError(f"shards[{i}]: scores tokens beyond the vocabulary")
    for rank in range(manifest.ranks):
        _check_blocks(manifest.of_rank(rank))
    for name, member in manifest.members.items():
        if not re.fullmatch("[0-9a-f]{64}", member.sha256):
            raise SparsecompError(f"members.{name}.sha256: is not a SHA-256 in hex")


def _check_cuda(manifest: Manifest, cuda: CudaProgram) -> None:
    if cuda.launch_version != LAUNCH_VERSION:
        raise SparsecompError(
            f"cuda.launch_version: is {cuda.launch_version}, this runtime has {LAUNCH_VERSION}; "
            "compile the model again"
        )
    if Code.PTX not in cuda.codes or len(set(cuda.codes)) != len(cuda.codes):
        raise SparsecompError("cuda.codes: has no ptx, or one twice")


def _check_blocks(manifest: Manifest) -> None:
    for i, block in enumerate(manifest.blocks):
        coarse = None if block.coarse is None else block.coarse.counter
        for index in (block.chosen_counter, block.active_counter, coarse):
            if index is not None and not OWN_COUNTERS <= index < manifest.counters:
                raise SparsecompError(
                    f"blocks[{i}]: counter {index} is not one of the program's {manifest.counters}"
                )
        if block.trace + 1 + block.units > manifest.trace_slots:
            raise SparsecompError(f"blocks[{i}].trace: its list does not fit the trace")
