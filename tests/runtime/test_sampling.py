"""Sampling: the candidates, their order, their frequencies, the parameters' ranges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.sampling import Sampler, SamplingParams, candidates

# Few distinct values, so that ties are common.
LOGITS = npst.arrays(
    np.float32, st.integers(1, 40), elements=st.integers(-6, 6).map(lambda x: x / 2)
)


def reference(logits: np.ndarray, params: SamplingParams) -> dict[int, float]:
    """Probabilities by the definition: sort, cut, cut, normalise."""
    scaled = logits.astype(np.float64) / params.temperature
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    if params.top_k:
        order = order[: params.top_k]
    weights = np.exp(scaled[order] - scaled.max())
    weights /= weights.sum()
    if params.top_p < 1:
        cumulative = np.cumsum(weights)
        count = next(
            (i + 1 for i, c in enumerate(cumulative) if c >= params.top_p), len(cumulative)
        )
        order, weights = order[:count], weights[:count] / weights[:count].sum()
    return dict(zip(order, weights, strict=True))


@settings(max_examples=150)
@given(
    LOGITS,
    st.floats(0.1, 5),
    st.integers(0, 45),
    # Off the exact sums of a few equal weights, where rounding decides.
    st.one_of(st.just(1.0), st.floats(0.01, 0.99).map(lambda p: p + 1e-5 * np.pi)),
)
def test_candidates_are_those_of_the_definition(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=min(top_p, 1.0))
    tokens, weights = candidates(logits, params)
    expected = reference(logits, params)
    found = dict(zip(tokens.tolist(), weights / weights.sum(), strict=True))
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[t] for t in expected], list(expected.values()), rtol=1e-9)


def test_nucleus_wider_than_the_first_guess() -> None:
    logits = np.linspace(0, 1e-3, 5000, dtype=np.float32)
    params = SamplingParams(temperature=1.0, top_p=0.9)
    tokens, _ = candidates(logits, params)
    assert sorted(tokens) == sorted(reference(logits, params))


@given(LOGITS)
def test_greedy_takes_the_lowest_of_the_best(logits: np.ndarray) -> None:
    best = Sampler(SamplingParams())(logits)
    assert logits[best] == logits.max() and best == logits.tolist().index(logits.max())


@given(LOGITS, st.integers(0, 2**64), st.floats(0.01, 3))
def test_top_k_of_one_is_greedy(logits: np.ndarray, seed: int, temperature: float) -> None:
    sampler = Sampler(SamplingParams(temperature=temperature, top_k=1, seed=seed))
    assert sampler(logits) == int(np.argmax(logits))


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0, seed=3),
        SamplingParams(temperature=0.5, seed=4),
        SamplingParams(temperature=1.5, top_k=3, seed=5),
        SamplingParams(temperature=1.0, top_p=0.7, seed=6),
        SamplingParams(temperature=1.3, top_k=4, top_p=0.8, seed=7),
    ],
)
def test_frequencies(params: SamplingParams) -> None:
    logits = np.array([1.0, 2.0, 0.0, 2.0, -1.0, 0.5], np.float32)
    draws = 20_000
    sampler = Sampler(params)
    counts = np.bincount([sampler(logits) for _ in range(draws)], minlength=len(logits))
    expected = np.zeros(len(logits))
    for token, probability in reference(logits, params).items():
        expected[token] = probability * draws
    assert not counts[expected == 0].any()
    kept = expected > 0
    chi_square = ((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum()
    assert chi_square < 20.5  # 99.9th percentile with 5 degrees of freedom


def test_seed_repeats() -> None:
    logits = np.zeros(1000, np.float32)
    one, two, other = (Sampler(SamplingParams(temperature=1.0, seed=seed)) for seed in (1, 1, 2))
    first = [one(logits) for _ in range(50)]
    assert first == [two(logits) for _ in range(50)]
    assert first != [other(logits) for _ in range(50)]
    unseeded = [Sampler(SamplingParams(temperature=1.0))(logits) for _ in range(20)]
    assert len(set(unseeded)) > 1


def test_extreme_temperatures_and_logits() -> None:
    logits = np.array([3e38, -3e38, 2.9e38, -np.inf], np.float32)
    cold = Sampler(SamplingParams(temperature=1e-300, seed=0))
    assert {cold(logits) for _ in range(100)} == {0}
    hot = Sampler(SamplingParams(temperature=1e300, seed=0))
    assert {hot(logits) for _ in range(200)} == {0, 1, 2}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    with pytest.raises(SparsecompError, match="not finite: token 1"):
        Sampler(SamplingParams())(np.array([0, bad, 1], np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "1"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_k", True),
        ("max_new_tokens", 0),
        ("seed", -1),
        ("stop", "text"),
        ("stop", [""]),
        ("stop", [1]),
    ],
)
def test_parameters_out_of_range(field: str, value: object) -> None:
    with pytest.raises(SparsecompError, match=f"^{field}: is "):
        SamplingParams(**{field: value})
