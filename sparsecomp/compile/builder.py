"""Lowered programs as code: libraries for CPUs, the members of a GPU program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from sparsecomp.codegen import build, emit
from sparsecomp.observer import Observer
from sparsecomp.options import CompileOptions, Target
from sparsecomp.runtime import artifact, launch

from .lowered import Lowered


@dataclass(frozen=True)
class NativeProgram:
    """A program for one target, as the manifest describes it, and its library."""

    facts: artifact.Program
    library: bytes


@dataclass(frozen=True)
class Built:
    """All code of an artifact: the C++ source of each rank, what was built of it, and the members
    of GPU programs by name."""

    sources: list[str]
    programs: list[NativeProgram]
    cuda: Mapping[str, bytes] | None


class Builder:
    """Builds the programs of one model; a source that was built is not built again."""

    def __init__(self, options: CompileOptions, name: str, positions: int):
        self.options = options
        self.name = name
        self.positions = positions
        self._programs: dict[tuple[str, Target], NativeProgram] = {}

    def build(
        self,
        lowered: Lowered,
        targets: tuple[Target, ...],
        codes: tuple[launch.Code, ...],
        observer: Observer,
    ) -> Built:
        """Code for all `targets`, and for a GPU program of all `codes`.

        Raises SparsecompError where a compiler is missing or fails.
        """
        sources = [emit.emit(module, self.name) for module in lowered.modules]
        programs = []
        for rank, source in enumerate(sources):
            for target in targets:
                of = f" for rank {rank} of {lowered.ranks}" if lowered.ranks > 1 else ""
                observer.stage("native code", f"{target}{of}")
                programs.append(self._program(source, target, rank))
        cuda = self._cuda_members(lowered.cuda, codes, observer) if lowered.cuda else None
        return Built(sources, programs, cuda)

    def _program(self, source: str, target: Target, rank: int) -> NativeProgram:
        if (source, target) not in self._programs:
            compiler = build.find_compiler(target, self.options.cxx)
            facts = artifact.Program(
                target=artifact.Target(target),
                machine=artifact.Machine(build.machine(target)),
                cpu_flags=build.cpu_flags(target, compiler),
                member=artifact.program_member(artifact.Target(target), rank),
                workers=self.options.workers,
                abi_version=artifact.ABI_VERSION,
                rank=rank,
            )
            library = build.build(source, target, compiler)
            self._programs[source, target] = NativeProgram(facts, library)
        return self._programs[source, target]

    def _cuda_members(
        self, modules: list[ModuleOp], codes: tuple[launch.Code, ...], observer: Observer
    ) -> Mapping[str, bytes]:
        from sparsecomp.codegen.triton import program  # takes Triton

        observer.stage("GPU code", ", ".join((*codes, launch.Code.PTX)))
        built = program.build_programs(
            modules, self.positions, codes, program.compile_kernel, observer.progress
        )
        return built.members
