"""Which of an artifact's native programs this processor can run."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.manifest import Machine, Program, Target


@dataclass(frozen=True)
class Cpu:
    """`machine` as in `platform.machine()`, `flags` as in /proc/cpuinfo."""

    machine: str
    flags: frozenset[str]


# The flags that tell the x86-64 levels apart; the rest of each level comes with them.
_LEVELS = (
    (Target.X86_64_V4, frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
    (Target.X86_64_V3, frozenset({"avx2", "bmi2", "f16c", "fma"})),
)


def this_cpu() -> Cpu:
    """The processor that this process runs on; without flags where /proc is not there."""
    flags: frozenset[str] = frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = frozenset(value.split())
            break
    return Cpu(platform.machine(), flags)


def choose_program(programs: Sequence[Program], cpu: Cpu) -> Program:
    """The program that uses most of this processor.

    Raises SparsecompError saying what each program lacks here and which target would work.
    """
    runnable = [
        program
        for program in programs
        if program.machine == cpu.machine and cpu.flags.issuperset(program.cpu_flags)
    ]
    if runnable:
        return max(runnable, key=lambda program: len(program.cpu_flags))
    has = "; ".join(f"{program.target} {_obstacle(program, cpu)}" for program in programs)
    raise SparsecompError(
        f"no native program for this {cpu.machine} processor ({has}); "
        f"compile it with --target {_working_target(cpu)}"
    )


def _obstacle(program: Program, cpu: Cpu) -> str:
    if program.machine != cpu.machine:
        return f"is for {program.machine}"
    lacking = [flag for flag in program.cpu_flags if flag not in cpu.flags]
    return f"needs {' '.join(lacking)}"


def _working_target(cpu: Cpu) -> Target:
    if cpu.machine == Machine.AARCH64:
        return Target.AARCH64
    if cpu.machine == Machine.X86_64:
        for target, flags in _LEVELS:
            if flags <= cpu.flags:
                return target
    return Target.NATIVE
