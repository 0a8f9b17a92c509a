"""Which token of which round stands for a decode step; no figure of this machine's speed."""

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
from sparsecomp.evaluate.timing import TOKENS, Round, TimedDecode, time_decode
from sparsecomp.passes.tasks import Span

# (tokens, workers, steps): tokens take 90, 50 and 28 by their slower workers, 90, 15 and 28 by the
# first one alone.
TAKEN = np.array([[[70, 20], [1, 1]], [[10, 5], [40, 10]], [[20, 8], [4, 4]]])
GOOD = Round(20e9, 21e9, TAKEN * 1000)
BAD = Round(30e9, 15e9, TAKEN * 9000)
TIMED = TimedDecode((("mlp", "layers.0"), ("barrier", "")), 12, (BAD, GOOD, BAD))


def test_the_steadiest_round_counts() -> None:
    assert TIMED.steadiest is GOOD
    assert (GOOD.bandwidth, GOOD.change) == (20.5e9, pytest.approx(1 / 20.5))
    assert BAD.change == pytest.approx(15 / 22.5)  # whichever way it changed
    assert Round(15e9, 30e9, TAKEN).change == BAD.change


@given(st.permutations(range(3)))
def test_the_median_token_is_the_one_of_its_slowest_worker(order: list[int]) -> None:
    shuffled = Round(1.0, 1.0, TAKEN[order])
    assert shuffled.median_token.tolist() == TAKEN[1].tolist()
    assert Round(1.0, 1.0, TAKEN[[2, 0]]).median_token.tolist() == TAKEN[2].tolist()


def test_timelines_compare_that_token() -> None:
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
    assert "20.5 GB/s, changed by 5%: the least of 3 rounds, at 20.5 to 22.5 GB/s" in said


def test_few_tokens_of_a_round_are_timed(model: rt.Model) -> None:
    timed = time_decode(model, range(3, 60), prompt=10, rounds=2)
    assert (timed.context, len(timed.rounds)) == (10 + TOKENS // 2, 2)
    for each in timed.rounds:
        assert each.nanoseconds.shape == (TOKENS, model.workers, len(timed.steps))
        assert (each.nanoseconds >= 0).all() and (each.lengths > 0).all()
        assert each.before > 0 and each.after > 0
    assert ("embed", "model.embed_tokens") in timed.steps


@pytest.mark.parametrize(
    ("prompt", "rounds", "problem"),
    [(0, 1, "prompt 0: must be 1 to 8"), (4, 0, "rounds 0: must be at least 1")],
)
def test_mistakes(model: rt.Model, prompt: int, rounds: int, problem: str) -> None:
    with pytest.raises(SparsecompError, match=problem):
        time_decode(model, range(3, 12), prompt=prompt, rounds=rounds)


def test_turns(model: rt.Model, other_model: rt.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio of benchmarks, in short turns."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from turns import Ratio, take_turns

    taken = take_turns([model, other_model], prompt=3, tokens=2, limit=0)
    assert taken.shape == (2, 2) and (taken > 0).all()
    with pytest.raises(SparsecompError, match="turns of 0 tokens after 3: must be at least 1"):
        take_turns([model], prompt=3, tokens=0, limit=0)

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
