"""What a GPU program asks of a device, and its kernels loaded there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.launch import WARP, Code, LaunchProgram, binary_member

PTX_ARCH = 80
"""The oldest GPU that runs a program's PTX."""


class DeviceError(SparsecompError):
    """A GPU, its driver or its memory cannot do what a program asks for."""


class OutOfMemory(DeviceError):
    """A GPU has less memory free than is asked for."""


class Device(Protocol):
    """A GPU, or what stands in for one. Addresses are the device's but where the host's are named.

    What is called is done in order; streams alone run beside each other, from a launch on.
    """

    @property
    def arch(self) -> int:
        """Its compute capability times ten."""

    @property
    def driver(self) -> int:
        """The CUDA version of its driver: 12080 for 12.8."""

    def load(self, code: bytes, entry: str, shared: int) -> Any:
        """A function of a cubin, or of PTX, for `shared` bytes of shared memory."""

    def allocate(self, size: int) -> int:
        """Raises OutOfMemory when memory is short."""

    def free(self, address: int) -> None: ...

    def write(self, address: int, host: int, size: int) -> None:
        """Copies from the host, before what is launched later."""

    def read(self, host: int, address: int, size: int) -> None:
        """Copies to the host, when all that was launched is done."""

    def copy(self, to: int, source: int, size: int) -> None:
        """Copies within the device, in order with what is launched."""

    def clear(self, address: int, size: int) -> None:
        """Zeros, in order with what is launched."""

    def finish(self) -> None:
        """Waits until all is done."""

    def launch(
        self,
        function: Any,
        grid: Sequence[int],
        threads: int,
        shared: int,
        arguments: Sequence[int],
        stream: int,
    ) -> None:
        """An address of 0 is a null pointer."""

    def record(self, event: int, stream: int) -> None: ...

    def wait(self, event: int, stream: int) -> None: ...

    def begin_capture(self) -> None:
        """What is launched from here on is kept instead of run."""

    def end_capture(self) -> Any:
        """The graph of what was launched."""

    def replay(self, graph: Any) -> None: ...

    def drop(self, graph: Any) -> None: ...


@dataclass(frozen=True)
class Loaded:
    """A kernel's function on a device, and what each of its programs takes."""

    function: Any
    threads: int
    shared: int


def choose_code(program: LaunchProgram, device: Device) -> Code:
    """The kind of code that a device runs best: its own, then PTX.

    Raises DeviceError saying what the device or its driver lacks.
    """
    own = [c for c in program.drivers if c is not Code.PTX and _runs(c, device.arch)]
    if not own and device.arch < PTX_ARCH:
        raise DeviceError(
            f"its CUDA program is for sm_{PTX_ARCH} or newer, the GPU is sm_{device.arch}"
        )
    code = max(own, default=Code.PTX)
    needed = program.drivers[code]
    if device.driver < needed:
        raise DeviceError(
            f"the NVIDIA driver is too old: it has CUDA {_version(device.driver)}, the program's "
            f"{code} code needs {_version(needed)}; update it"
        )
    return code


def _runs(code: Code, arch: int) -> bool:
    """Code for sm_80 runs on its whole generation, later code on its own chip alone."""
    return arch // 10 == 8 if code is Code.SM_80 else code == f"sm_{arch}"


def _version(cuda: int) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def load_kernels(
    program: LaunchProgram, device: Device, read: Callable[[str], bytes]
) -> dict[str, Loaded]:
    """A program's kernels by name; `read` gives the bytes of a member.

    Raises DeviceError as `choose_code`, and SparsecompError for a member that is not the program's.
    """
    code = choose_code(program, device)
    loaded = {}
    for name, kernel in program.kernels.items():
        member, binary = binary_member(code, name), kernel.binaries[code]
        data = read(member)
        if hashlib.sha256(data).hexdigest() != binary.sha256:
            raise SparsecompError(f"member {member!r} is not the one that the program describes")
        function = device.load(data, kernel.entry, binary.shared)
        loaded[name] = Loaded(function, kernel.warps * WARP, binary.shared)
    return loaded
