"""Which token stands for a decode step, and which bytes for its weights; no figure of this
machine's speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsecomp.runtime as rt
from sparsecomp.cli.schedule import Timelines
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.timing import TOKENS, TURN, TimedDecode, shared_out, time_decode
from sparsecomp.passes.tasks import Span

# (tokens, workers, steps): tokens take 90, 50 and 28 by their slower workers, 90, 15 and 28 by the
# first one alone.
TAKEN = np.array([[[70, 20], [1, 1]], [[10, 5], [40, 10]], [[20, 8], [4, 4]]]) * 1000
STEPS = (("mlp", "layers.0"), ("barrier", ""))
READS = [(0, 4096)]
TIMED = TimedDecode(STEPS, 12, (20e9, 50e9, 21e9), TAKEN)


def longest(timed: TimedDecode) -> float:
    """Of the workers' sums of steps."""
    return max(sum(step.seconds for step in steps) for steps in timed.worker_steps)


@given(st.permutations(range(3)))
def test_the_median_token_is_the_one_of_its_slowest_worker(order: list[int]) -> None:
    assert longest(TimedDecode(STEPS, 12, (1.0,), TAKEN[order])) == pytest.approx(50e-6)
    assert longest(TimedDecode(STEPS, 12, (1.0,), TAKEN[[2, 0]])) == pytest.approx(28e-6)


def test_timelines_compare_medians() -> None:
    assert TIMED.worker_steps[1] == (
        rt.StepTime("mlp", "layers.0", pytest.approx(40e-6)),
        rt.StepTime("barrier", "", pytest.approx(10e-6)),
    )
    spans = tuple(Span(cast(Any, None), w, 0.0, end) for w, end in enumerate((30e3, 40e3)))
    compared = Timelines(spans, TIMED)
    assert (compared.predicted, compared.measured) == (40.0, pytest.approx(50.0))
    said = compared.summary()
    assert "predicted to take 40 us and took 1.25 times that, 50 us" in said
    assert "median of 3 tokens, 28 to 90" in said
    assert "read at 21.0 GB/s (median of 3 times, 20.0 to 50.0)" in said


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_workers_share_the_bytes_out(spans: list[tuple[int, int]], workers: int) -> None:
    """Each word of each span is read once, in order, by workers that have as many to a word."""
    words = np.arange(250)
    reads, expected = [], []
    end = 0
    for gap, size in spans:
        begin, end = end + gap, end + gap + size
        reads.append((8 * begin, 8 * end + 7))  # what is no whole word is left out
        expected += range(begin, end)
    parts = shared_out(memoryview(words.tobytes()), reads, workers)
    assert [word for part in parts for piece in part for word in piece] == expected
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_round_has_few_tokens(model: rt.Model) -> None:
    timed = time_decode(model, range(3, 60), READS, prompt=10, rounds=2)
    assert (timed.context, len(timed.bandwidths)) == (10 + TOKENS // 2, 2 * TOKENS // TURN)
    assert timed.nanoseconds.shape == (2 * TOKENS, model.workers, len(timed.steps))
    assert (timed.nanoseconds >= 0).all() and (timed.lengths > 0).all()
    assert min(timed.bandwidths) > 0
    assert ("embed", "model.embed_tokens") in timed.steps


@pytest.mark.parametrize(
    ("prompt", "rounds", "problem"),
    [(0, 1, "prompt 0: must be 1 to 8"), (4, 0, "rounds 0: must be at least 1")],
)
def test_mistakes(model: rt.Model, prompt: int, rounds: int, problem: str) -> None:
    with pytest.raises(SparsecompError, match=problem):
        time_decode(model, range(3, 12), READS, prompt=prompt, rounds=rounds)


def test_turns(model: rt.Model, other_model: rt.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio of benchmarks, in short turns."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from turns import Ratio, take_turns

    ids = [number % 7 for number in range(20)]
    taken = take_turns([model, other_model], ids, prompt=3, tokens=2, limit=0)
    assert taken.shape == (8, 2) and (taken > 0).all()
    with pytest.raises(SparsecompError, match="turns of 0 tokens after 3: must be at least 1"):
        take_turns([model], ids, prompt=3, tokens=0, limit=0)
    with pytest.raises(SparsecompError, match="the text has 20 tokens, 35 are needed"):
        take_turns([model], ids, prompt=3, tokens=4, limit=0)

    # The machine swings by a factor of two from round to round, turns by 5 %.
    random = np.random.default_rng(0)
    machine = random.uniform(1, 2, 500)
    found = Ratio.of(1.05 * machine * random.normal(1, 0.05, 500), machine)
    error = 1.25 * 0.05 * 1.05 / np.sqrt(500)  # of a median
    assert found.median.value == pytest.approx(1.05, abs=3 * error)
    assert found.median.high - found.median.low == pytest.approx(2 * 1.96 * error, rel=0.3)
    half = 1.645 * 0.05 * 1.05
    assert (found.low, found.high) == pytest.approx((1.05 - half, 1.05 + half), abs=0.02)
    assert Ratio.of(machine, machine / 3).median.low == pytest.approx(3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--tokens", "0"), "--tokens 0: must be at least 1"),
        (("--positions", "20"), "--positions 20: must be at least 24"),
    ],
)
def test_mistakes_of_a_benchmark(
    options: tuple[str, ...],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import lookahead

    monkeypatch.setattr("sys.argv", ["lookahead.py", *options])
    with pytest.raises(SystemExit):
        lookahead.main()
    assert problem in capsys.readouterr().err
