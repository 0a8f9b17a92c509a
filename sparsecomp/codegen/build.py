"""C++ source to a shared library, by the compiler that is there."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsecomp.errors import SparsecompError
from sparsecomp.options import Target

FLAGS = (
    "-std=c++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-pthread",
)
COMPILERS = ("c++", "g++", "clang++")

MARCH = {
    Target.X86_64_V3: ("-march=x86-64-v3",),
    Target.X86_64_V4: ("-march=x86-64-v4", "-mavx512vnni"),
    Target.NATIVE: ("-march=native",),
    Target.AARCH64: ("-mcpu=generic",),
}
"""x86-64-v4 has no integer products, the processors that have it do, but for the oldest."""
MACHINE = {
    Target.X86_64_V3: "x86_64",
    Target.X86_64_V4: "x86_64",
    Target.AARCH64: "aarch64",
}
V3_FLAGS = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
V4_FLAGS = (
    *V3_FLAGS, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"
)  # fmt: skip

NATIVE_MACROS = {
    "__AVX__": "avx",
    "__AVX2__": "avx2",
    "__BMI__": "bmi1",
    "__BMI2__": "bmi2",
    "__F16C__": "f16c",
    "__FMA__": "fma",
    "__MOVBE__": "movbe",
    "__AVX512F__": "avx512f",
    "__AVX512BW__": "avx512bw",
    "__AVX512CD__": "avx512cd",
    "__AVX512DQ__": "avx512dq",
    "__AVX512VL__": "avx512vl",
    "__AVX512BF16__": "avx512_bf16",
    "__AVX512FP16__": "avx512_fp16",
    "__AVX512VNNI__": "avx512_vnni",
    "__AVXVNNI__": "avx_vnni",
    "__AVX512VBMI__": "avx512vbmi",
    "__AVX512VBMI2__": "avx512_vbmi2",
    "__GFNI__": "gfni",
}
"""What a compiler defines for the processor it runs on, and the name in /proc/cpuinfo."""


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C++ for some machine."""

    command: tuple[str, ...]

    def run(self, arguments: Sequence[str], text: str | None = None) -> str:
        """Standard output. Raises SparsecompError with the compiler's first error."""
        try:
            process = subprocess.Popen(
                [*self.command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
        except OSError as error:
            raise SparsecompError(
                f"C++ compiler {self.command[0]}: cannot be run: {error.strerror}; "
                "install one (apt install g++), or name one in CXX"
            ) from None
        with process:
            try:
                output, errors = process.communicate(text)
            except BaseException:
                # A compiler has processes of its own: end them all, and let it remove its files.
                with contextlib.suppress(ProcessLookupError):  # it may have ended by now
                    os.killpg(process.pid, signal.SIGTERM)
                raise
        if process.returncode:
            lines = errors.splitlines() or [f"exit status {process.returncode}"]
            first = next((line for line in lines if "error" in line.lower()), lines[0])
            raise SparsecompError(
                f"C++ compiler {self.command[0]}: {first.strip()}; g++ 11 or clang 14 work"
            )
        return output


def find_compiler(target: Target, named: Sequence[str] = ()) -> Compiler:
    """The compiler for a target: the one named, the system's, or ziglang's.

    Raises SparsecompError saying what to install.
    """
    machine = platform.machine()
    foreign = target is not Target.NATIVE and MACHINE[target] != machine
    zig = importlib.util.find_spec("ziglang") is not None
    if foreign:
        if zig:
            name = f"{MACHINE[target]}-linux-gnu.2.28"
            return Compiler((sys.executable, "-m", "ziglang", "c++", "-target", name))
        raise SparsecompError(
            f"target {target}: needs a cross compiler on {machine}: pip install 'sparsecomp[cross]'"
        )
    if named:
        return Compiler(tuple(named))
    for name in COMPILERS:
        if path := shutil.which(name):
            return Compiler((path,))
    if zig:
        return Compiler((sys.executable, "-m", "ziglang", "c++"))
    raise SparsecompError(
        f"no C++ compiler found (looked for {', '.join(COMPILERS)}): install one "
        "(apt install g++), name one in CXX, or pip install 'sparsecomp[cross]'"
    )


def cpu_flags(target: Target, compiler: Compiler) -> tuple[str, ...]:
    """What a processor must have to run the target, as in /proc/cpuinfo."""
    match target:
        case Target.X86_64_V3:
            return V3_FLAGS
        case Target.X86_64_V4:
            return V4_FLAGS
        case Target.AARCH64:
            return ("asimd",)
        case Target.NATIVE:
            macros = compiler.run([*MARCH[target], "-dM", "-E", "-x", "c++", "-"], text="")
            defined = {
                line.split()[1] for line in macros.splitlines() if line.startswith("#define")
            }
            found = tuple(flag for macro, flag in NATIVE_MACROS.items() if macro in defined)
            return found or (("asimd",) if platform.machine() == "aarch64" else ())


def machine(target: Target) -> str:
    return MACHINE.get(target, platform.machine())


def build(source: str, target: Target, compiler: Compiler) -> bytes:
    """The shared library of a program for one target."""
    with tempfile.TemporaryDirectory(prefix="sparsecomp-") as folder:
        file = Path(folder) / "program.cpp"
        library = Path(folder) / "program.so"
        file.write_text(source)
        compiler.run([*FLAGS, *MARCH[target], str(file), "-o", str(library)])
        if not library.is_file():
            raise SparsecompError(
                f"C++ compiler {compiler.command[0]}: wrote no library; g++ 11 or clang 14 work"
            )
        return library.read_bytes()
