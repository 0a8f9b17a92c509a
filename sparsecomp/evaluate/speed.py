"""Speed of artifacts on a real text, taking turns so that each sees the same machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.spread import Spread
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.runtime import Model, Session, Stats, StepTime


@dataclass(frozen=True)
class Speed:
    """Of one artifact: tokens a second, what its session counted over all rounds, and the mean
    seconds of the first worker at each step of a decode (none where they were not asked for).

    `ratio` is the decode speed over the first artifact's, round by round.
    """

    prefill: Spread
    decode: Spread
    ratio: Spread
    stats: Stats
    steps: tuple[StepTime, ...]

    @property
    def bytes_per_second(self) -> float:
        """Bytes of weights and KV cache read while decoding, at the median speed."""
        return self.stats.bytes_per_token * self.decode.median


@dataclass(frozen=True)
class _Round:
    """Seconds of one turn."""

    prefill: float
    decode: float


def race(
    models: Sequence[Model],
    ids: Sequence[int],
    *,
    prompt: int,
    rounds: int,
    profile: bool = False,
    observer: Observer | None = None,
) -> list[Speed]:
    """How fast each model takes in `ids[:prompt]` at once and the rest one by one.

    Every decoded token is the text's, whatever the model says: all do the same work. The models
    take turns in each round, and a first round is not counted. With `profile` a round of its own
    follows, as looking at the clock takes time.

    Raises SparsecompError for a token that a model does not have, and more than it has room for.
    """
    check_turns(ids, prompt, rounds)
    observer = observer or SilentObserver()
    sessions = [model.session(len(ids)) for model in models]
    try:
        for session in sessions:
            _turn(session, ids, prompt)
            session.reset_stats()
        turns: list[list[_Round]] = [[] for _ in sessions]
        for done in range(1, rounds + 1):
            for session, took in zip(sessions, turns, strict=True):
                took.append(_turn(session, ids, prompt))
            observer.progress(done, rounds)
        stats = [session.stats() for session in sessions]
        steps = [_steps(session, ids, prompt) if profile else () for session in sessions]
    finally:
        for session in sessions:
            session.close()
    decoded = len(ids) - prompt
    return [
        Speed(
            prefill=Spread.of([prompt / turn.prefill for turn in took]),
            decode=Spread.of([decoded / turn.decode for turn in took]),
            ratio=Spread.of([a.decode / b.decode for a, b in zip(turns[0], took, strict=True)]),
            stats=counted,
            steps=timed,
        )
        for took, counted, timed in zip(turns, stats, steps, strict=True)
    ]


def check_turns(ids: Sequence[int], prompt: int, rounds: int) -> None:
    """Raises SparsecompError where there is nothing to prefill, to decode or to repeat."""
    if not 0 < prompt < len(ids):
        raise SparsecompError(f"prompt {prompt}: must be 1 to {len(ids) - 1} of the tokens")
    if rounds < 1:
        raise SparsecompError(f"rounds {rounds}: must be at least 1")


def _turn(session: Session, ids: Sequence[int], prompt: int) -> _Round:
    session.rewind(0)
    started = time.perf_counter()
    session.prefill(ids[:prompt])
    between = time.perf_counter()
    for token in ids[prompt:]:
        session.decode(token)
    return _Round(between - started, time.perf_counter() - between)


def _steps(session: Session, ids: Sequence[int], prompt: int) -> tuple[StepTime, ...]:
    """Seconds at each step of one decode, on average."""
    session.profile()
    _turn(session, ids, prompt)
    decoded = len(ids) - prompt
    return tuple(
        StepTime(step.kernel, step.module, step.seconds / decoded)
        for step in session.step_seconds()
    )
