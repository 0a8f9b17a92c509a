"""How fast this machine reads memory: the ceiling of a decode step whose weights are not cached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sparsecomp.evaluate.spread import Spread

METHOD = "numpy.max over int64, one thread a worker"
BYTES = 512 * 10**6
"""Several times the last-level cache, in all."""
SWEEPS = 7
LEAST_SWEEP = 1 << 26
"""Bytes that a sweep reads, in several passes over less memory: in a shorter time one thread may be
done when the next begins."""


class BandwidthReader:
    """Threads that each take the maximum of an array of their own, which they also wrote.

    numpy does that in vectors and without the interpreter's lock, so it reads as fast as compiled
    code does. The arrays stay while the reader does: reading again takes no time to make them.
    """

    def __init__(self, threads: int, size: int) -> None:
        """`size`: bytes of all arrays together, at least 8 a thread."""
        self._threads = threads
        self._size = size
        self._arrays: dict[int, npt.NDArray[np.int64]] = {}

        def write(thread: int) -> None:
            self._arrays[thread] = np.arange(size // threads // 8)

        self._together(write)

    def read(self, sweeps: int) -> Spread:
        """Bytes a second that the threads read together, over several sweeps of all arrays."""
        passes = -(-LEAST_SWEEP // self._size)
        spans = [[(0.0, 0.0)] * self._threads for _ in range(sweeps)]
        ready = threading.Barrier(self._threads)

        def sweep_all(thread: int) -> None:
            mine = self._arrays[thread]
            for sweep in spans:
                ready.wait()
                begin = time.perf_counter()
                for _ in range(passes):
                    mine.max()
                sweep[thread] = begin, time.perf_counter()

        self._together(sweep_all)
        took = [max(end for _, end in sweep) - min(begin for begin, _ in sweep) for sweep in spans]
        return Spread.of([passes * self._size / seconds for seconds in took])

    def _together(self, work: Callable[[int], None]) -> None:
        pool = [threading.Thread(target=work, args=(n,)) for n in range(self._threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()


def read_bandwidth(threads: int) -> Spread:
    """Bytes a second that `threads` threads read together from memory, over a few sweeps."""
    return BandwidthReader(threads, BYTES).read(SWEEPS)
