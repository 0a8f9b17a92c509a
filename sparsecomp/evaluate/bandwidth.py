"""How fast this machine reads memory: the ceiling of a decode step whose weights are not cached."""

from __future__ import annotations

import threading
import time

import numpy as np
import numpy.typing as npt

from sparsecomp.evaluate.spread import Spread

METHOD = "numpy.max over int64, one thread a worker"
BYTES = 512 * 10**6
"""Several times the last-level cache, in all."""


def read_bandwidth(threads: int, sweeps: int = 7, size: int | None = None) -> Spread:
    """Bytes a second that `threads` threads read together, over several sweeps of `size` bytes
    (None: BYTES).

    Each thread takes the maximum of an array of its own, which it also wrote. numpy does that in
    vectors and without the interpreter's lock, so it reads as fast as compiled code does.
    """
    size = BYTES if size is None else size
    spans = [[(0.0, 0.0)] * threads for _ in range(sweeps)]
    ready = threading.Barrier(threads)

    def work(thread: int) -> None:
        mine: npt.NDArray[np.int64] = np.arange(size // threads // 8)
        for sweep in spans:
            ready.wait()
            begin = time.perf_counter()
            mine.max()
            sweep[thread] = begin, time.perf_counter()

    pool = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    seconds = [max(end for _, end in sweep) - min(begin for begin, _ in sweep) for sweep in spans]
    return Spread.of([size / s for s in seconds])
