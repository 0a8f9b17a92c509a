"""Candidates of the ranks give the tokens that all logits in one place would give."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from thread_ranks import ThreadRanks, on_ranks

from sparsecomp.distributed.sampling import CANDIDATE, FEW, RankSampler
from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import SamplingParams
from sparsecomp.runtime.artifact import Part, Shard
from sparsecomp.runtime.sampling import Sampler

VOCAB, STEPS = 1000, 12
EVEN = (0, 500, 1000)
UNEVEN = (0, 900, 901, 1000)


def shard(first: int, logits: int) -> Shard:
    none = dict.fromkeys(Part, 0)
    return Shard(first, logits, none, none, none, (), 2, 0, 0)


def shards(bounds: tuple[int, ...]) -> list[Shard]:
    return [shard(first, end - first) for first, end in pairwise(bounds)]


def logits(spread: float = 3.0) -> npt.NDArray[np.float32]:
    """Of some steps, with many equal ones."""
    drawn = np.random.default_rng(0).normal(size=(STEPS, VOCAB)) * spread
    return drawn.round(1).astype(np.float32)


def together(
    params: SamplingParams, parts: list[Shard], steps: npt.NDArray[np.float32]
) -> tuple[list[int], list[int]]:
    """The tokens, which all ranks agree on, and the bytes of each exchange."""
    sizes: list[int] = []

    def run(ranks: ThreadRanks) -> list[int]:
        def gather(data: bytes) -> list[bytes]:
            if ranks.rank == 0:
                sizes.append(len(data))
            return ranks.gather(data)

        sampler = RankSampler(params, ranks.rank, parts, gather)
        own = parts[ranks.rank]
        window = slice(own.first_token, own.first_token + own.logits)
        return [sampler(step[window]) for step in steps]

    first, *others = on_ranks(len(parts), run)
    assert all(other == first for other in others)
    return first, sizes


@pytest.mark.parametrize("bounds", [EVEN, UNEVEN])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.8, top_k=40, seed=1),
        SamplingParams(temperature=0.8, top_k=VOCAB + 1, seed=1),
        SamplingParams(temperature=1.5, top_k=40, top_p=0.7, seed=2),
        SamplingParams(temperature=0.5, top_p=0.9, seed=3),
        SamplingParams(temperature=4.0, top_p=0.95, seed=4),
        SamplingParams(temperature=1e-3, top_p=0.5, seed=5),
        SamplingParams(temperature=1.0, seed=6),
        SamplingParams(temperature=9.0, seed=7),
    ],
    ids=str,
)
def test_the_tokens_of_one_place(params: SamplingParams, bounds: tuple[int, ...]) -> None:
    sampler, steps = Sampler(params), logits()
    assert together(params, shards(bounds), steps)[0] == [sampler(step) for step in steps]


def test_few_candidates_travel() -> None:
    each, masses = CANDIDATE.itemsize, 16
    assert together(SamplingParams(), shards(EVEN), logits())[1] == [each] * STEPS
    top_k = SamplingParams(temperature=1.0, top_k=40, seed=0)
    assert together(top_k, shards(EVEN), logits())[1] == [40 * each] * STEPS
    sharp = SamplingParams(temperature=0.2, top_p=0.9, seed=0)
    assert together(sharp, shards(EVEN), logits())[1] == [masses, FEW * each] * STEPS
    # So flat that the first few do not reach p: a rank gives all that it has.
    flat = SamplingParams(temperature=50.0, top_p=0.9, seed=0)
    assert together(flat, shards(EVEN), logits()[:1])[1] == [masses, FEW * each, 500 * each]
    everything = SamplingParams(temperature=1.0, seed=0)
    assert together(everything, shards(EVEN), logits())[1] == [masses, 8] * STEPS


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_head_that_is_whole_counts_once(temperature: float) -> None:
    params = SamplingParams(temperature=temperature, seed=1)
    sampler, steps = Sampler(params), logits()
    tokens, _ = together(params, [shard(0, VOCAB), shard(0, VOCAB)], steps)
    assert tokens == [sampler(step) for step in steps]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("where", [0, VOCAB - 1])
def test_logits_that_are_not_finite(where: int, temperature: float) -> None:
    steps = logits()
    steps[0, where] = np.nan
    with pytest.raises(SparsecompError, match="the model's logits are not finite"):
        together(SamplingParams(temperature=temperature, seed=0), shards(EVEN), steps)
