"""The artifact file (.spz): its members, and the reader that trusts none of it.

An artifact is a zip of stored members with fixed names (layout.py), described by its manifest
(manifest.py) and sealed by a hash of the whole file, so that a changed byte anywhere is found.
This module is the one definition of what lies in an artifact; the compiler's writer imports it.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import mmap
import os
import stat
import time
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import launch, layout, state
from sparsecomp.runtime.layout import Entry, seal_comment
from sparsecomp.runtime.manifest import (
    ABI_VERSION,
    FORMAT_VERSION,
    KV_COUNTER,
    MAX_SHARDS,
    OWN_COUNTERS,
    TOKENS_COUNTER,
    Block,
    BlockKind,
    CoarseUnits,
    CudaProgram,
    Dtype,
    Machine,
    Manifest,
    Member,
    ModelFacts,
    Part,
    Program,
    Shard,
    Target,
    encode_manifest,
    of_rank,
    parse_manifest,
    program_member,
)
from sparsecomp.runtime.record import Record, parse_record
from sparsecomp.runtime.weights import (
    ALIGNMENT,
    Tensor,
    TensorDtype,
    WeightsHeader,
    encode_weights_header,
    parse_weights_header,
    place_tensors,
)

__all__ = [
    "ABI_VERSION",
    "ALIGNMENT",
    "CHAT_TEMPLATE",
    "FORMAT_VERSION",
    "KV_COUNTER",
    "MANIFEST",
    "MAX_SHARDS",
    "MEMBER_NAMES",
    "OWN_COUNTERS",
    "RECIPE",
    "REQUIRED_MEMBERS",
    "SOURCE",
    "SPARSITY",
    "TOKENIZER",
    "TOKENIZER_CONFIG",
    "TOKENS_COUNTER",
    "WEIGHTS",
    "Artifact",
    "Block",
    "BlockKind",
    "CoarseUnits",
    "CudaProgram",
    "Dtype",
    "Entry",
    "Machine",
    "Manifest",
    "Member",
    "ModelFacts",
    "Part",
    "Program",
    "Shard",
    "Stage",
    "Target",
    "Tensor",
    "TensorDtype",
    "encode_manifest",
    "encode_weights_header",
    "ir_member",
    "launch_member",
    "layout",
    "parse_weights_header",
    "place_tensors",
    "program_member",
    "required_members",
    "seal_comment",
    "source_member",
]


class Stage(enum.StrEnum):
    """The dialects whose text an artifact keeps."""

    ATEN = "aten"
    SPZ = "spz"
    EXEC = "exec"
    """Of the programs for CPUs."""
    EXEC_CUDA = "exec.cuda"
    """Of the program for GPUs."""


def ir_member(stage: Stage, rank: int = 0) -> str:
    """Name of the member with a rank's IR of `stage`; the ranks have their aten in common."""
    return f"ir/{stage.value}{of_rank(rank)}.mlir"


def source_member(rank: int = 0) -> str:
    """Name of the member with the source of a rank's program."""
    return f"native/program{of_rank(rank)}.cpp"


def launch_member(rank: int = 0) -> str:
    """Name of the member with a rank's GPU program (launch.py)."""
    return f"cuda/program{of_rank(rank)}.json"


MANIFEST = "manifest.json"
SOURCE = source_member()
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer/tokenizer.json"
TOKENIZER_CONFIG = "tokenizer/tokenizer_config.json"
CHAT_TEMPLATE = "tokenizer/chat_template.jinja"
SPARSITY = "sparsity.json"
"""The record of how its sparsity was chosen (record.py)."""
RECIPE = "recipe.yaml"
"""The choices themselves, to compile the same again."""

REQUIRED_MEMBERS = (MANIFEST, ir_member(Stage.ATEN), ir_member(Stage.SPZ), WEIGHTS)
"""Of every artifact; what its programs have besides, `required_members` says."""
_NATIVE_MEMBERS = (ir_member(Stage.EXEC), SOURCE)
_FIXED_NAMES = frozenset(
    (
        *(*REQUIRED_MEMBERS, *_NATIVE_MEMBERS, launch.SOURCE),
        *(program_member(t, rank) for t in Target for rank in range(MAX_SHARDS)),
        *(ir_member(s, r) for s in Stage if s is not Stage.ATEN for r in range(MAX_SHARDS)),
        *map(source_member, range(MAX_SHARDS)),
        *map(launch_member, range(MAX_SHARDS)),
        *(TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE),
        *(SPARSITY, RECIPE),
    )
)


class _MemberNames:
    """The names that members may have; those of a GPU's kernels are told by their form."""

    def __contains__(self, name: object) -> bool:
        return name in _FIXED_NAMES or (
            isinstance(name, str) and launch.BINARY_MEMBER.fullmatch(name) is not None
        )


MEMBER_NAMES: Container[str] = _MemberNames()


def required_members(manifest: Manifest) -> frozenset[str]:
    """The members that an artifact with this manifest must have."""
    return frozenset(
        (
            *REQUIRED_MEMBERS,
            *(program.member for program in manifest.programs),
            *(_NATIVE_MEMBERS if manifest.programs else ()),
            *(_cuda_members(manifest.ranks) if manifest.cuda is not None else ()),
        )
    )


def _cuda_members(ranks: int) -> Iterator[str]:
    """Those of GPU programs, but for their kernels."""
    for rank in range(ranks):
        yield from (ir_member(Stage.EXEC_CUDA, rank), launch_member(rank))
    yield launch.SOURCE


_MANIFEST_MAX = 16 << 20
_HASH_CHUNK = 16 << 20
# A file changed within one tick of the clock keeps its time: remember only older ones.
_CLOCK_TICK_NS = 20_000_000


class Artifact:
    """An open artifact: the file is mapped read-only, its structure and its seal are checked.

    Use it as a context manager, or call `close`.
    """

    def __init__(self, path: Path, file: mmap.mmap, seal: str) -> None:
        """Use `Artifact.open`. Takes over `file`, whose seal has been checked."""
        self.path = path
        self.seal = seal
        self._file: mmap.mmap | None = file
        self._view = memoryview(file)
        self._entries = {
            entry.name: entry for entry in layout.read_directory(self._view, MEMBER_NAMES)
        }
        self.manifest = self._read_manifest()
        self._header = self._read_weights_header()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Opens and checks an artifact.

        The whole file is hashed the first time; while it is unchanged, later opens on this
        machine skip that. Raises SparsecompError when the file cannot be read, is not an
        artifact, was written by a newer version, or is damaged (naming the member).
        """
        path = Path(path)
        try:
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise SparsecompError(f"{path}: is not a file")
                if not status.st_size:
                    raise SparsecompError(f"{path}: is empty")
                file = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise SparsecompError(f"{path}: cannot be read: {error.strerror}") from None
        _ask_for_large_pages(file)
        try:
            with memoryview(file) as view:
                seal = layout.read_seal(view)
                _check_seal(view, seal, path, status)
            return cls(path, file, seal)
        except SparsecompError as error:
            raise SparsecompError(f"{path}: {error}") from None

    @property
    def member_names(self) -> tuple[str, ...]:
        """The members, in the order in which they lie in the file."""
        return tuple(self._entries)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The weights by name; their offsets count from the start of `weights`."""
        return self._header.tensors

    @property
    def weights(self) -> memoryview:
        """The data section of the weights: read-only bytes of the mapped file."""
        entry = self._entries[WEIGHTS]
        start = entry.data_start + self._header.data_start
        return self._mapped()[start : start + self._header.data_size]

    @property
    def weights_address(self) -> int:
        """Address of `weights` in memory: a multiple of 64, valid until `close`."""
        import numpy as np

        entry = self._entries[WEIGHTS]
        base: int = np.frombuffer(self._mapped(), np.uint8).ctypes.data
        return base + entry.data_start + self._header.data_start

    def read_bytes(self, name: str) -> bytes:
        """A copy of a member. Raises SparsecompError where there is none of that name."""
        entry = self._entry(name)
        return bytes(self._mapped()[entry.data_start : entry.data_end])

    def read_text(self, name: str) -> str:
        """A UTF-8 member as text. Raises SparsecompError where there is none of that name."""
        try:
            return self.read_bytes(name).decode()
        except UnicodeDecodeError:
            raise SparsecompError(f"{self.path}: member {name!r} is not UTF-8 text") from None

    def read_record(self) -> Record | None:
        """How its sparsity was chosen; None where it has no record.

        Raises SparsecompError for a record that is not sound.
        """
        if SPARSITY not in self._entries:
            return None
        try:
            return parse_record(self.read_bytes(SPARSITY))
        except SparsecompError as error:
            raise SparsecompError(f"{self.path}: {error}") from None

    def close(self) -> None:
        """Unmaps the file (once the caller's own views of `weights` are gone)."""
        if self._file is not None:
            self._view.release()
            # A view may still be out there; the mapping goes when it does.
            with contextlib.suppress(BufferError):
                self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _mapped(self) -> memoryview:
        if self._file is None:
            raise SparsecompError(f"{self.path}: the artifact is closed")
        return self._view

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise SparsecompError(f"{self.path}: the artifact has no member {name!r}")
        return self._entries[name]

    def _read_manifest(self) -> Manifest:
        for name in REQUIRED_MEMBERS:
            if name not in self._entries:
                raise SparsecompError(f"member {name!r} is missing")
        if self._entries[MANIFEST].size > _MANIFEST_MAX:
            raise SparsecompError(f"member {MANIFEST!r} is over {_MANIFEST_MAX} bytes")
        try:
            manifest = parse_manifest(self.read_bytes(MANIFEST))
        except SparsecompError as error:
            raise SparsecompError(f"member {MANIFEST!r}: {error}") from None
        described = {name: member.size for name, member in manifest.members.items()}
        described[MANIFEST] = self._entries[MANIFEST].size
        for name in sorted(described.keys() | self._entries.keys()):
            if name not in self._entries:
                raise SparsecompError(f"member {name!r} is in the manifest but missing")
            if described.get(name) != self._entries[name].size:
                raise SparsecompError(f"member {name!r} is not the one that the manifest describes")
        _check_programs(manifest, frozenset(self._entries))
        return manifest

    def _read_weights_header(self) -> WeightsHeader:
        entry = self._entries[WEIGHTS]
        try:
            header = parse_weights_header(self._view[entry.data_start : entry.data_end])
        except SparsecompError as error:
            raise SparsecompError(f"member {WEIGHTS!r}: {error}") from None
        if header.data_size != self.manifest.weights_bytes:
            raise SparsecompError(
                f"member {WEIGHTS!r} has {header.data_size} bytes of data, "
                f"the manifest says {self.manifest.weights_bytes}"
            )
        return header


def _check_programs(manifest: Manifest, names: frozenset[str]) -> None:
    """That the members of programs are those that the manifest has."""
    required = required_members(manifest)
    codes = () if manifest.cuda is None else manifest.cuda.codes
    strays = {name for name in names - required if _is_of_another_program(name, codes)}
    for name in sorted(strays | (required - names)):
        raise SparsecompError(f"member {name!r} and the manifest's programs do not agree")


def _is_of_another_program(name: str, codes: Sequence[launch.Code]) -> bool:
    """Of a member that no program must have: kernels of one of `codes` are the GPU program's."""
    folder, _, rest = name.partition("/")
    if folder == "cuda":
        return rest.partition("/")[0] not in codes
    return name.endswith(".so") or name.startswith(f"ir/{Stage.EXEC_CUDA}.")


def _ask_for_large_pages(file: mmap.mmap) -> None:
    """Decode goes through gigabytes, and a sparse one jumps: small pages cost it up to a fifth."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel or file system that has none
            file.madvise(mmap.MADV_HUGEPAGE)


def _check_seal(file: memoryview, seal: str, path: Path, status: os.stat_result) -> None:
    identity = state.FileIdentity(
        os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino
    )
    if state.remembered_seal(identity) == seal:
        return
    settled = time.time_ns() - status.st_mtime_ns > _CLOCK_TICK_NS
    digest = hashlib.sha256()
    end = len(file) - layout.SEAL_SIZE
    for start in range(0, end, _HASH_CHUNK):
        digest.update(file[start : min(start + _HASH_CHUNK, end)])
    if digest.hexdigest() != seal:
        raise SparsecompError(f"is damaged: {_find_damage(file)}; copy or compile it again")
    if settled:
        state.remember_seal(identity, seal)


def _find_damage(file: memoryview) -> str:
    """Where a file with a broken seal differs from what was written."""
    try:
        entries = {entry.name: entry for entry in layout.read_directory(file, MEMBER_NAMES)}
        data = {name: file[entry.data_start : entry.data_end] for name, entry in entries.items()}
        if MANIFEST not in data or zlib.crc32(data[MANIFEST]) != entries[MANIFEST].crc:
            return f"member {MANIFEST!r} has changed"
        manifest = parse_manifest(bytes(data[MANIFEST]))
    except SparsecompError as error:
        return str(error)
    for name, member in manifest.members.items():
        if name not in data or hashlib.sha256(data[name]).hexdigest() != member.sha256:
            return f"member {name!r} has changed"
    return "the seal itself has changed"
