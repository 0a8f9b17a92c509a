"""How long each worker takes at each step of a decode, and how fast memory was read meanwhile.

A prediction is for a bandwidth. A machine that others use too may read half as fast a second later,
so the bandwidth is read right before and right after a few tokens, over as many bytes as a token
reads (they may be cached), and of several rounds that one counts in which it changed the least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsecomp.evaluate.bandwidth import BandwidthReader
from sparsecomp.evaluate.speed import check_turns
from sparsecomp.runtime import Model, Session, StepTime

ROUNDS = 5
TOKENS = 16
"""Decoded in a round: few, so that there is little time for the bandwidth to change."""
SWEEPS = 8
"""Before these tokens, and after: in all they read as much as the tokens."""
LEAST_BYTES = 1 << 20
"""Of memory to read: over less, calls take longer than reading."""


@dataclass(frozen=True)
class Round:
    """Some tokens, and the bytes a second that all workers read before and after them.

    `nanoseconds` (tokens, workers, steps) are what each worker took at each step of a decode.
    """

    before: float
    after: float
    nanoseconds: npt.NDArray[np.int64]

    @property
    def bandwidth(self) -> float:
        return (self.before + self.after) / 2

    @property
    def change(self) -> float:
        """Of the bandwidth, as a share of it."""
        return abs(self.after - self.before) / self.bandwidth

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Nanoseconds of each token, (tokens,): of the worker that takes longest."""
        return self.nanoseconds.sum(axis=2).max(axis=1)

    @property
    def median_token(self) -> npt.NDArray[np.int64]:
        """Nanoseconds (workers, steps) of the token of median length, the shorter of two."""
        order = np.argsort(self.lengths, kind="stable")
        return self.nanoseconds[order[(len(order) - 1) // 2]]


@dataclass(frozen=True)
class TimedDecode:
    """Rounds of decode steps at about `context` positions; `steps` are (kernel, module) of each."""

    steps: tuple[tuple[str, str], ...]
    context: int
    rounds: tuple[Round, ...]

    @property
    def steadiest(self) -> Round:
        """The round in which the bandwidth changed the least."""
        return min(self.rounds, key=lambda each: each.change)

    @property
    def worker_steps(self) -> tuple[tuple[StepTime, ...], ...]:
        """Each worker's seconds at each step, of the median token of the steadiest round."""
        return tuple(
            tuple(
                StepTime(*step, taken * 1e-9)
                for step, taken in zip(self.steps, worker.tolist(), strict=True)
            )
            for worker in self.steadiest.median_token
        )


def time_decode(
    model: Model, ids: Sequence[int], *, prompt: int, rounds: int = ROUNDS
) -> TimedDecode:
    """Time decode steps of the first TOKENS of `ids[prompt:]`, after `ids[:prompt]`.

    Raises SparsecompError for a model on a GPU, whose kernels nothing times; for a token that the
    model does not have, and more than it has room for.
    """
    check_turns(ids, prompt, rounds)
    ids = ids[: prompt + TOKENS]
    with model.session(len(ids)) as session:
        session.profile()
        session.prefill(ids[:prompt])
        _decode(session, ids[prompt:])  # for what a token reads; not counted
        size = max(int(session.stats().bytes_per_token), LEAST_BYTES)
        reader = BandwidthReader(model.workers, size)
        timed = tuple(_round(session, reader, ids, prompt) for _ in range(rounds))
        steps = tuple((step.kernel, step.module) for step in session.step_seconds())
    return TimedDecode(steps, (prompt + len(ids)) // 2, timed)


def _round(session: Session, reader: BandwidthReader, ids: Sequence[int], prompt: int) -> Round:
    session.rewind(0)
    session.prefill(ids[:prompt])
    before = reader.read(SWEEPS).median
    taken = _decode(session, ids[prompt:])
    return Round(before, reader.read(SWEEPS).median, taken)


def _decode(session: Session, ids: Sequence[int]) -> npt.NDArray[np.int64]:
    """Nanoseconds (tokens, workers, steps)."""
    totals = [session.step_nanoseconds()]
    for token in ids:
        session.decode(token)
        totals.append(session.step_nanoseconds())
    return np.diff(totals, axis=0)
