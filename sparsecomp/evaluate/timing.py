"""How long each worker takes at each step of a decode, and how fast its weights are read meanwhile.

A prediction is for a bandwidth. A machine that others use too may read half as fast a second later,
and in a cache that they share what lay there may be gone a millisecond later. So tokens take turns
with a plain read of what a token reads, in the very place where it lies: an array of its own would
need room in the cache beside the weights. The medians of both belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from sparsecomp.evaluate.bandwidth import BandwidthReader, Words
from sparsecomp.evaluate.speed import check_turns
from sparsecomp.runtime import Model, Session, StepTime

TOKENS = 16
"""Decoded in a round."""
TURN = 4
"""Tokens between two reads: few, so that there is little time for the bandwidth to change. The one
before them is decoded again first, not counted, as workers may have to be woken for it."""
ROUNDS = 8

Bytes = tuple[int, int]
"""Where bytes begin and end among the weights."""


@dataclass(frozen=True)
class TimedDecode:
    """Decode steps at about `context` positions; `steps` are (kernel, module) of each.

    `bandwidths`: bytes a second that all workers read, once a turn. `nanoseconds` (tokens, workers,
    steps): what each worker took at each step of a decode.
    """

    steps: tuple[tuple[str, str], ...]
    context: int
    bandwidths: tuple[float, ...]
    nanoseconds: npt.NDArray[np.int64]

    @property
    def bandwidth(self) -> float:
        return median(self.bandwidths)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Nanoseconds of each token, (tokens,): of the worker that takes longest."""
        return self.nanoseconds.sum(axis=2).max(axis=1)

    @property
    def worker_steps(self) -> tuple[tuple[StepTime, ...], ...]:
        """Each worker's seconds at each step, of the token of median length, the shorter of two."""
        order = np.argsort(self.lengths, kind="stable")
        token = self.nanoseconds[order[(len(order) - 1) // 2]]
        return tuple(
            tuple(
                StepTime(*step, taken * 1e-9)
                for step, taken in zip(self.steps, worker.tolist(), strict=True)
            )
            for worker in token
        )


def time_decode(
    model: Model, ids: Sequence[int], reads: Iterable[Bytes], *, prompt: int, rounds: int = ROUNDS
) -> TimedDecode:
    """Time decode steps of the first TOKENS of `ids[prompt:]`, after `ids[:prompt]`.

    `reads`: which of the artifact's weights a token reads. Raises SparsecompError for a model on a
    GPU, whose kernels nothing times; for a token that the model does not have, and more than it has
    room for.
    """
    check_turns(ids, prompt, rounds)
    ids = ids[: prompt + TOKENS]
    reader = BandwidthReader(shared_out(model.artifact.weights, reads, model.workers))
    bandwidths: list[float] = []
    taken: list[npt.NDArray[np.int64]] = []
    with model.session(len(ids)) as session:
        session.profile()
        session.prefill(ids[:prompt])
        for _ in range(rounds):
            for first in range(prompt, len(ids), TURN):
                bandwidths.append(reader.read().median)
                session.rewind(first - 1)
                taken += _decode(session, ids[first - 1 : first + TURN])
        steps = tuple((step.kernel, step.module) for step in session.step_seconds())
    return TimedDecode(steps, (prompt + len(ids)) // 2, tuple(bandwidths), np.array(taken))


def shared_out(weights: memoryview, reads: Iterable[Bytes], workers: int) -> list[list[Words]]:
    """The bytes to read as whole words, for each worker as many as for any other."""
    words: Words = np.frombuffer(weights[: len(weights) // 8 * 8], np.int64)
    spans = [(begin // 8, end // 8) for begin, end in reads]
    total = sum(end - begin for begin, end in spans)
    parts: list[list[Words]] = [[] for _ in range(workers)]
    before = 0
    for begin, end in spans:
        for worker, part in enumerate(parts):
            first, last = (total * w // workers - before + begin for w in (worker, worker + 1))
            if (mine := words[max(first, begin) : min(last, end)]).size:
                part.append(mine)
        before += end - begin
    return parts


def _decode(session: Session, ids: Sequence[int]) -> list[npt.NDArray[np.int64]]:
    """Nanoseconds (workers, steps) of each token but the first."""
    totals = []
    for token in ids:
        session.decode(token)
        totals.append(session.step_nanoseconds())
    return list(np.diff(totals, axis=0))
