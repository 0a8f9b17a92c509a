"""Kernels to machine code, on any machine."""

from __future__ import annotations

import linecache
import pkgutil
import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from . import kernels
from .call import Kernel

PTX_ARCH = 80
"""PTX of it runs on whatever came later."""
WARP = 32


@dataclass(frozen=True)
class Binary:
    """Code of a kernel: its arguments, then two null pointers that Triton's kernels end with."""

    code: bytes
    entry: str
    warps: int
    shared: int
    """Bytes of shared memory, allocated at launch."""


@dataclass(frozen=True)
class Resources:
    """What a thread of a cubin takes."""

    registers: int
    spilled: int
    """Bytes of its registers that lie in memory."""


@cache
def _functions() -> dict[str, Any]:
    """The Triton functions by name."""
    names = [module.name for module in pkgutil.iter_modules(kernels.__path__)]
    modules = [import_module(f"{kernels.__name__}.{name}") for name in names]
    return {name: value for module in modules for name, value in vars(module).items()}


@cache
def find(kernel: Kernel) -> Any:
    """The Triton function of a kernel."""
    if not kernel.source:
        return _functions()[kernel.function]
    # Triton reads a function's source again, which inspect finds in the cache of lines.
    file = f"<{kernel.function}>"
    linecache.cache[file] = (len(kernel.source), None, kernel.source.splitlines(True), file)
    names = dict(_functions())
    exec(compile(kernel.source, file, "exec"), names)
    return names[kernel.function]


def _compiled(kernel: Kernel, arch: int) -> CompiledKernel:
    function = find(kernel)
    constants = dict(kernel.constants)
    names = [name for name in function.arg_names if name not in constants]
    types = dict(zip(names, (t.split(":")[0] for t in kernel.pointers), strict=True))
    aligned = {
        (function.arg_names.index(name),): [["tt.divisibility", int(type.split(":")[1])]]
        for name, type in zip(names, kernel.pointers, strict=True)
        if ":" in type
    }
    signature = {name: types.get(name, "constexpr") for name in function.arg_names}
    source = ASTSource(function, signature, constants, aligned)
    options = {
        "num_warps": kernel.warps,
        "num_stages": kernel.stages,
        "enable_fp_fusion": True,
        "ptx_options": "",
    }
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = True  # no paths, and the same bytes anywhere
        return triton.compile(source, target=GPUTarget("cuda", arch, WARP), options=options)


def _binary(kernel: Kernel, compiled: CompiledKernel, code: bytes) -> Binary:
    metadata = compiled.metadata
    assert metadata.global_scratch_size == 0 and metadata.profile_scratch_size == 0
    return Binary(code, metadata.name, kernel.warps, metadata.shared)


def cubin(kernel: Kernel, arch: int) -> Binary:
    """The code of a kernel for sm_`arch`; the same kernel gives the same bytes."""
    compiled = _compiled(kernel, arch)
    return _binary(kernel, compiled, compiled.asm["cubin"])


def ptx(kernel: Kernel) -> Binary:
    """The text of a kernel that a driver compiles for a GPU there is no cubin for."""
    compiled = _compiled(kernel, PTX_ARCH)
    return _binary(kernel, compiled, compiled.asm["ptx"].encode())


def resources(binary: Binary) -> Resources:
    """What a thread of a cubin takes."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.code)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found is not None
    return Resources(int(found[1]), int(found[2]))
