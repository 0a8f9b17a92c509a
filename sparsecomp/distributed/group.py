"""The ranks of one run, on torch.distributed, and what becomes of them when one is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from sparsecomp.distributed.sampling import RankSampler
from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import SamplingParams
from sparsecomp.runtime.artifact import Shard

GRACE = 2.0
"""Seconds that a rank has to say that it is alive."""
SMALL = 1 << 16
"""Bytes up to which vectors are gathered and each rank adds them up: one round instead of two."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL = 0.1
_FAILURES = "failures"
_MESSAGE = 1024
"""Bytes of the longest problem that a rank tells."""


class RankLost(SparsecompError):
    """An exchange failed: another rank ended, or does not answer."""


class Stopped(SparsecompError):
    """A signal asked this rank to end."""

    def __init__(self, number: int, rank: int) -> None:
        self.number = number
        told = f"rank {rank} was told to end ({signal.Signals(number).name})"
        super().__init__("interrupted" if number == signal.SIGINT else told)


@dataclass
class Traffic:
    """What this rank gave to the others: exchanges, and their bytes."""

    exchanges: int = 0
    bytes: int = 0

    def count(self, size: int) -> None:
        self.exchanges += 1
        self.bytes += size


@dataclass
class Counted:
    """Traffic of a run: sums of vectors, and candidates for tokens. `sums_before` are the bytes of
    sums before each token was picked, so the first is what the prompt took."""

    sums: Traffic = field(default_factory=Traffic)
    candidates: Traffic = field(default_factory=Traffic)
    sums_before: list[Traffic] = field(default_factory=list)


class FloatsAt:
    """Floats in the memory of a GPU, as torch takes them over without a copy."""

    def __init__(self, address: int, count: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (count,),
            "typestr": "<f4",
            "data": (address, False),
            "version": 3,
        }


class Group:
    """The ranks that torchrun started, each with this object: a `Ranks` of the runtime.

    Signals (SIGINT, SIGTERM) are heeded between two exchanges: `Stopped` is raised there.
    """

    def __init__(self, timeout: float) -> None:
        """Meets the others. `timeout` is in seconds, of each exchange.

        Raises SparsecompError when torchrun did not start this process, or not all come.
        """
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            raise SparsecompError(
                "was not started by torchrun; run "
                "torchrun --nproc-per-node N -m sparsecomp.distributed ARTIFACT -p ..."
            )
        torch.set_num_threads(1)  # the programs have workers of their own
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a lost rank is an error, no abort
        limit = timedelta(seconds=timeout)
        try:
            self._store, self.rank, self.size = next(rendezvous("env://", timeout=limit))
            self.local_rank = int(os.environ.get("LOCAL_RANK", self.rank))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if self._has_nccl() else "gloo",
                store=self._store,
                rank=self.rank,
                world_size=self.size,
                timeout=limit,
            )
        except (RuntimeError, ValueError) as error:
            raise SparsecompError(f"the ranks do not meet: {_reason(error)}") from None
        self.add_up_on_gpu: Callable[[int, int], None] | None = None
        self.counted = Counted()
        self._signal: int | None = None
        for number in SIGNALS:
            signal.signal(number, self._note_signal)
        self._done = threading.Event()
        threading.Thread(target=self._answer, daemon=True).start()

    def add_up(self, values: npt.NDArray[np.float32]) -> None:
        """Replaces `values` by their sums over all ranks. Raises RankLost, or Stopped."""
        own = torch.from_numpy(values)
        with self._exchange("a sum"):
            if values.nbytes > SMALL:
                dist.all_reduce(own)
            else:
                everything = torch.empty(self.size, len(values))
                dist.all_gather(list(everything.unbind()), own)
                torch.sum(everything, 0, out=own)
        self.counted.sums.count(values.nbytes)

    def meet_on(self, device: str) -> None:
        """Called by all with what each runs on, "cpu" or a GPU: sums of GPUs take NCCL where torch
        has it on all. Raises SparsecompError where some run on a GPU and others do not."""
        found = self._share(bytes([device != "cpu", self._has_nccl()]))
        with_gpu, with_nccl = zip(*(map(bool, of_rank) for of_rank in found), strict=True)
        if any(with_gpu) and not all(with_gpu):
            raise SparsecompError(
                f"rank {with_gpu.index(True)} runs on a GPU, rank {with_gpu.index(False)} on its "
                "CPU; give --device cpu"
            )
        if all(with_gpu) and all(with_nccl):
            self.add_up_on_gpu = self._add_up_on_gpu

    def sampler(
        self, params: SamplingParams, shards: Sequence[Shard]
    ) -> Callable[[npt.NDArray[np.float32]], int]:
        """Picks each token from the candidates of all ranks, the same on every one."""
        if params.seed is None:  # one for all
            drawn = np.random.default_rng().integers(1 << 62)
            seed = int(np.frombuffer(self._share(drawn.tobytes())[0], np.int64)[0])
            params = dataclasses.replace(params, seed=seed)
        pick = RankSampler(params, self.rank, shards, self._gather_candidates)

        def counted(logits: npt.NDArray[np.float32]) -> int:
            self.counted.sums_before.append(dataclasses.replace(self.counted.sums))
            return pick(logits)

        return counted

    def agree(self, problem: str) -> str:
        """The first rank's `problem` that has one, or ''; called by all when they are ready."""
        found = self._share(problem.encode()[:_MESSAGE].ljust(_MESSAGE, b"\0"))
        texts = (text.rstrip(b"\0").decode(errors="replace") for text in found)
        return next((text for text in texts if text), "")

    def close(self) -> None:
        """Parts from the others when all is done."""
        self._done.set()
        dist.destroy_process_group()

    def leave(self, error: SparsecompError) -> str | None:
        """Tells the others of a failure that ends this rank, and so all.

        Returns the line that says what happened, on the rank that told of it first; None on the
        others. It names the ranks that do not answer, where one was lost.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # torchrun ends all when one fails
        try:
            self._store.set(_alive(self.rank), "")
            if self._store.add(_FAILURES, 1) > 1:
                return None
            lost = self._silent() if isinstance(error, RankLost) else []
        except RuntimeError:  # the store is gone: with torchrun, or with the rank that held it
            return f"rank {self.rank}: {error}; torchrun does not answer"
        if lost:
            names = f"rank{'s' * (len(lost) > 1)} {', '.join(map(str, lost))}"
            return f"{names} died or does not answer; the others end"
        return f"rank {self.rank}: {error}" if isinstance(error, RankLost) else str(error)

    def _has_nccl(self) -> bool:
        there = torch.cuda.is_available() and dist.is_nccl_available()
        return there and self.local_rank < torch.cuda.device_count()

    def _add_up_on_gpu(self, address: int, count: int) -> None:
        where = torch.device("cuda", self.local_rank)
        own = torch.as_tensor(FloatsAt(address, count), device=where)
        with self._exchange("a sum"):
            dist.all_reduce(own)
            torch.cuda.synchronize(where)
        self.counted.sums.count(own.nbytes)

    def _silent(self) -> list[int]:
        """The ranks that do not say soon that they are alive."""
        end = time.monotonic() + GRACE
        silent = [rank for rank in range(self.size) if rank != self.rank]
        while silent and time.monotonic() < end:
            time.sleep(_POLL)
            silent = [rank for rank in silent if not self._store.check([_alive(rank)])]
        return silent

    def _answer(self) -> None:
        """Says that this rank is alive when another one fails, for this one may be waiting in an
        exchange that cannot be broken off."""
        with contextlib.suppress(RuntimeError):  # the store went first
            while not self._done.wait(_POLL):
                if self._store.check([_FAILURES]):
                    self._store.set(_alive(self.rank), "")
                    return

    def _gather_candidates(self, data: bytes) -> list[bytes]:
        self.counted.candidates.count(len(data))
        return self._share(data)

    def _share(self, data: bytes) -> list[bytes]:
        """What each rank gives, as many bytes each, in order."""
        own = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        everything = [torch.empty_like(own) for _ in range(self.size)]
        with self._exchange("candidates"):
            dist.all_gather(everything, own)
        return [part.numpy().tobytes() for part in everything]

    @contextlib.contextmanager
    def _exchange(self, what: str) -> Iterator[None]:
        if self._signal is not None:
            raise Stopped(self._signal, self.rank)
        try:
            yield
        except RuntimeError as error:
            raise RankLost(f"{what} could not be exchanged: {_reason(error)}") from None

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once


def _alive(rank: int) -> str:
    return f"alive/{rank}"


def _reason(error: Exception) -> str:
    """What an error of gloo or NCCL says first, without the place in its source."""
    text = re.sub(r"^\[[^]]*\] *", "", str(error).strip())
    return re.split(r"\. |\n", text)[0]
