"""Ranks that are threads of one process: what sharded programs compute, without torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

import sparsecomp.runtime as rt
from sparsecomp.distributed.sampling import RankSampler
from sparsecomp.runtime.artifact import Shard

T = TypeVar("T")


class Meeting:
    """Where `size` threads exchange what they have."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=60)
        self._given: list[object] = [None] * size

    def exchange(self, rank: int, given: T) -> list[T]:
        self._given[rank] = given
        self._barrier.wait()
        everything = list(self._given)
        self._barrier.wait()
        return everything  # type: ignore[return-value]

    def abort(self) -> None:
        self._barrier.abort()


class ThreadRanks:
    """One thread's `Ranks`."""

    def __init__(self, meeting: Meeting, rank: int, size: int) -> None:
        self.meeting, self.rank, self.size = meeting, rank, size
        self.local_rank = rank
        self.add_up_on_gpu: Callable[[int, int], None] | None = None

    def add_up(self, values: npt.NDArray[np.float32]) -> None:
        parts = self.meeting.exchange(self.rank, values.copy())
        values[:] = np.sum(parts, axis=0)

    def gather(self, data: bytes) -> list[bytes]:
        return self.meeting.exchange(self.rank, data)

    def sampler(
        self, params: rt.SamplingParams, shards: Sequence[Shard]
    ) -> Callable[[npt.NDArray[np.float32]], int]:
        return RankSampler(params, self.rank, shards, self.gather)


def on_ranks(size: int, run: Callable[[ThreadRanks], T]) -> list[T]:
    """What `run` gives on each of `size` ranks side by side."""
    meeting = Meeting(size)

    def rank(number: int) -> T:
        try:
            return run(ThreadRanks(meeting, number, size))
        except BaseException:
            meeting.abort()  # or the others would wait
            raise

    with ThreadPoolExecutor(size) as pool:
        done = [pool.submit(rank, number) for number in range(size)]
    raised = [error for future in done if (error := future.exception()) is not None]
    for error in raised:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error  # what broke it
    return [future.result() for future in done]


def on_shards(path: Path, run: Callable[[rt.Model], T]) -> list[T]:
    """What `run` gives of each rank's part of an artifact."""
    with rt.Artifact.open(path) as artifact:
        size = artifact.manifest.ranks

    def of(ranks: ThreadRanks) -> T:
        with rt.load(path, ranks=ranks) as model:
            return run(model)

    return on_ranks(size, of)
