"""How fast this machine reads memory: the ceiling of a decode step whose weights are not cached."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sparsecomp.evaluate.spread import Spread

METHOD = "numpy.max over int64, one thread a worker"
BYTES = 512 * 10**6
"""Several times the last-level cache, in all."""
SWEEPS = 7
AWAKE = 2e-4
"""Seconds that threads are busy before they begin to read: one is woken later than another."""
WARM = 4096
"""Integers that a thread reads over and over meanwhile, which lie in its first-level cache then."""

Words = npt.NDArray[np.int64]


class BandwidthReader:
    """Threads that each take the maximum of arrays of their own, all at once.

    numpy does that in vectors and without the interpreter's lock, so it reads as fast as compiled
    code does. Each thread has a processor of its own where the system lets it choose: two that
    begin on one would read one after the other.
    """

    def __init__(self, parts: Sequence[Sequence[Words]]) -> None:
        """`parts`: what each thread reads; none may be empty."""
        self._parts = parts
        self._size = sum(words.nbytes for part in parts for words in part)

    def read(self, sweeps: int = 1) -> Spread:
        """Bytes a second that the threads read together, over several sweeps of all arrays."""
        spans = [[(0.0, 0.0)] * len(self._parts) for _ in range(sweeps)]
        start = 0.0

        def agree() -> None:
            nonlocal start
            start = time.perf_counter() + AWAKE

        ready = threading.Barrier(len(self._parts), action=agree)

        def sweep_all(thread: int) -> None:
            mine = self._parts[thread]
            warm = mine[0][:WARM]
            for sweep in spans:
                ready.wait()
                while time.perf_counter() < start:
                    warm.max()
                begin = time.perf_counter()
                for words in mine:
                    words.max()
                sweep[thread] = begin, time.perf_counter()

        _together(len(self._parts), sweep_all)
        took = [max(end for _, end in sweep) - min(begin for begin, _ in sweep) for sweep in spans]
        return Spread.of([self._size / seconds for seconds in took])


def read_bandwidth(threads: int) -> Spread:
    """Bytes a second that `threads` threads read together from memory, over a few sweeps."""
    arrays: dict[int, Words] = {}

    def write(thread: int) -> None:  # who reads it: memory is often placed near its first writer
        arrays[thread] = np.arange(BYTES // threads // 8)

    _together(threads, write)
    return BandwidthReader([[arrays[thread]] for thread in range(threads)]).read(SWEEPS)


def _together(threads: int, work: Callable[[int], None]) -> None:
    """work(thread) in each of so many threads."""

    def pinned(thread: int) -> None:
        if hasattr(os, "sched_setaffinity"):
            usable = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {usable[thread % len(usable)]})
        work(thread)

    pool = [threading.Thread(target=pinned, args=(n,)) for n in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
