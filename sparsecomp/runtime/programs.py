"""Which of an artifact's programs runs here: on the CPU, or on a GPU."""

from __future__ import annotations

import contextlib
import enum
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import cpu, cuda, launch, state
from sparsecomp.runtime.artifact import Artifact, Manifest, Program, launch_member
from sparsecomp.runtime.device import DeviceError, load_kernels
from sparsecomp.runtime.engine import Engine
from sparsecomp.runtime.gpu import GpuProgram
from sparsecomp.runtime.native import load_program
from sparsecomp.runtime.ranks import Ranks


class DeviceKind(enum.StrEnum):
    """What a model is to run on."""

    AUTO = "auto"
    """A GPU where there is one that the artifact has a program for."""
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Chosen:
    """An engine, what it runs on, and its native program where that is the CPU."""

    engine: Engine
    device: str
    program: Program | None


def choose(artifact: Artifact, kind: DeviceKind, ranks: Ranks | None, allow_native: bool) -> Chosen:
    """The best of an artifact's programs, or of a rank's, for what it is to run on.

    Raises SparsecompError where it has none that runs here, or none that is trusted.
    """
    manifest = artifact.manifest
    if kind is DeviceKind.CUDA and manifest.cuda is None:
        raise SparsecompError(
            "has no program for a GPU; compile it with --target cuda:sm_90 too, or load it with "
            "device='cpu'"
        )
    if kind is DeviceKind.CPU and not manifest.programs:
        raise SparsecompError("has no program for a CPU; compile it with --target native too")
    if kind is not DeviceKind.CPU and manifest.cuda is not None:
        try:
            with offering_the_cpu(manifest):
                return _on_gpu(artifact, ranks, allow_native)
        except DeviceError:
            if kind is DeviceKind.CUDA or not manifest.programs:
                raise
    return _on_cpu(artifact, 0 if ranks is None else ranks.rank, allow_native)


@contextlib.contextmanager
def offering_the_cpu(manifest: Manifest) -> Iterator[None]:
    """What a GPU cannot do, the CPU may: says so in the error."""
    try:
        yield
    except DeviceError as error:
        instead = (
            "load it with device='cpu' (--device cpu)"
            if manifest.programs
            else "compile it with --target native too, to run on the CPU"
        )
        raise DeviceError(f"{error}; {instead}") from None


def _on_gpu(artifact: Artifact, ranks: Ranks | None, allow_native: bool) -> Chosen:
    rank, ordinal = (0, 0) if ranks is None else (ranks.rank, ranks.local_rank)
    device, member = cuda.open_device(ordinal), launch_member(rank)
    text = artifact.read_bytes(member)
    # It holds the hashes of all kernels.
    _require_compiled_here(member, hashlib.sha256(text).hexdigest(), allow_native)
    program = launch.parse_program(text, member)
    weights_bytes = artifact.manifest.weights_bytes
    if any(piece.source + piece.size > weights_bytes for piece in program.weights):
        raise SparsecompError(f"member {member!r}: reads beyond the weights")
    kernels = load_kernels(program, device, artifact.read_bytes)
    return Chosen(GpuProgram(program, kernels, device), device.name, None)


def _on_cpu(artifact: Artifact, rank: int, allow_native: bool) -> Chosen:
    program = cpu.choose_program(artifact.manifest.of_rank(rank).programs, cpu.this_cpu())
    code = artifact.read_bytes(program.member)
    sha256 = hashlib.sha256(code).hexdigest()
    _require_compiled_here(program.member, sha256, allow_native)
    try:
        native = load_program(code, sha256)
    except SparsecompError as error:
        raise SparsecompError(f"native program {program.member!r}: {error}") from None
    return Chosen(native, "cpu", program)


def _require_compiled_here(member: str, sha256: str, allow_native: bool) -> None:
    why = ""
    try:
        if allow_native or state.was_compiled_here(sha256):
            return
    except SparsecompError as error:
        why = f" as far as can be told ({error})"
    raise SparsecompError(
        f"its native code {member!r} was not compiled on this machine{why}; "
        "if you trust where it comes from, pass allow_native=True (--allow-native)"
    )
