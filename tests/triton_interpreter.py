"""Triton's interpreter in a process of its own: Triton decides when it is imported what it does."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from sparsecomp.codegen.triton.call import Call, Kernel

ALIGN = 64


def _begin() -> None:
    os.environ["TRITON_INTERPRET"] = "1"


@cache
def _process() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin)


def launch(
    file: Path, kernel: Kernel, offsets: Sequence[int | None], grid: tuple[int, int, int]
) -> None:
    """Run a launch over memory that a file holds; arguments are bytes into it, or None."""
    _process().submit(_launch, file, kernel, tuple(offsets), grid).result()


def _launch(
    file: Path, kernel: Kernel, offsets: tuple[int | None, ...], grid: tuple[int, int, int]
) -> None:
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    from sparsecomp.codegen.triton.build import find

    memory = _mapped(file)
    pointers = []
    for name, offset in zip(kernel.pointers, offsets, strict=True):
        pointee, _, alignment = name.partition(":")
        type = tl.str_to_ty(pointee, None)
        address = 0 if offset is None else memory.ctypes.data + offset
        assert address % int(alignment or 1) == 0, "a pointer aligned less than its type says"
        pointers.append(tl.tensor(TensorHandle(np.array([address], np.uint64), type), type))
    with np.errstate(all="ignore"):
        find(kernel)[grid](*pointers, **dict(kernel.constants))


@cache
def _mapped(file: Path) -> np.memmap:
    return np.memmap(file, np.uint8, "r+")


def run(calls: Sequence[Call], arrays: Sequence[Sequence[np.ndarray | None]]) -> None:
    """Run calls over arrays, which keep what was written: of each call one for each argument.

    Where the same array is given twice, it is the same memory.
    """
    distinct = {id(a): a for given in arrays for a in given if a is not None}
    offsets, size = {}, ALIGN
    for key, array in distinct.items():
        offsets[key] = size
        size += -(-array.nbytes // ALIGN) * ALIGN
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "memory")
        file.write_bytes(bytes(size))
        memory = np.memmap(file, np.uint8, "r+")
        places = {
            key: memory[offsets[key] : offsets[key] + array.nbytes]
            for key, array in distinct.items()
        }
        for key, array in distinct.items():
            places[key][:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for call, given in zip(calls, arrays, strict=True):
            at = [None if a is None else offsets[id(a)] for a in given]
            launch(file, call.kernel, at, call.grid)
        for key, array in distinct.items():
            array.reshape(-1).view(np.uint8)[:] = places[key]
