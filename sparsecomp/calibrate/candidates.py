"""The choices worth pricing for each block."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from sparsecomp.passes.blocks import AttentionBlock, Block, MlpBlock
from sparsecomp.sparsity import (
    FEWER_BITS,
    FULL_BITS,
    Approximate,
    Cutoff,
    Exact,
    LowRank,
    Narrow,
    Nested,
)

from .correction import ALIGN
from .low_rank import Point
from .price import Candidate
from .recordings import MlpRecord

MULTIPLES = (0.7, 0.85, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Densities to predict at, in shares of the neurons that are active."""
APPROXIMATED = (0.7, 0.85, 1.0, 1.25, 1.5, 2.0)
"""The same, to choose by an approximation: it knows no more than that a neuron may be active."""
MAX_PREDICTED = 0.7
"""Beyond this density a predictor cannot pay for itself."""
PROBABLE = (2.8, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18)
"""Rows of the vocabulary as probable as that, in shares of what each has on average, are candidates
of a sketched head."""
FEWEST_SKETCHED = 256
"""Candidates: the 50 best are to be among them."""
PROBABLE_FIRST, PROBABLE_LAST = (0.04, 0.02, 0.01), (2.0, 1.0, 0.5)
"""The same for the rows that a cascade scores once more, and for its candidates."""
FEWEST_REFINED = 512
"""Of the former."""
KEPT = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Shares of the neurons that add something, to keep by a cutoff."""
FINE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
"""The same, to compute from all of their bits."""
LISTED = (0.6, 0.7, 0.8, 1.0)
"""The same with those that count as their coarse values."""


def narrow(block: MlpBlock | AttentionBlock) -> Iterator[Narrow]:
    """Fewer bits for some of a block's sides."""
    widths = (FULL_BITS, *FEWER_BITS)
    own = isinstance(block, AttentionBlock) and (block.key or block.value) is not None
    for bits, output_bits, of_keys in itertools.product(widths, widths, widths if own else (0,)):
        if min(bits, output_bits, of_keys or bits) < FULL_BITS:
            key_value_bits = 0 if of_keys == bits else of_keys
            yield Narrow(bits=bits, output_bits=output_bits, key_value_bits=key_value_bits)


def ranks(block: Block, inputs: int) -> tuple[int, ...]:
    """Ranks of predictors to train: Deja Vu takes a twelfth of the hidden size; 16 for heads."""
    if isinstance(block, AttentionBlock):
        return (min(16, block.units),)
    return tuple(sorted({max(16, round(inputs / part / 16) * 16) for part in (24, 12, 6)}))


def approximation_ranks(inputs: int, quantised: bool) -> tuple[int, ...]:
    """Ranks of approximations: in 4 bits whole blocks of nibbles, of which twice as many pay. None
    where that is more than half of the inputs."""
    parts, align = ((6, 3), ALIGN) if quantised else ((12, 6), 16)
    found = {max(round(inputs / part / align), 1) * align for part in parts}
    return tuple(sorted(rank for rank in found if 2 * rank <= inputs))


def approximated(rank: int, point: Point) -> Candidate:
    """Neurons that their approximation of this rank scores above the point's threshold."""
    choice = Approximate(
        rank=rank,
        threshold=max(point.threshold, 0.0),
        density=point.density,
        active=point.active,
    )
    return Candidate(choice, point.recall, point.precision)


def cutoffs(block: MlpBlock, record: MlpRecord) -> Iterator[Candidate]:
    """Neurons cut off by their own value, or by their gate's."""
    activity = record.activity
    if block.exact_zeros:
        yield Candidate(Cutoff(of=Exact.NEURON, threshold=0.0, density=activity))
    for share in KEPT:
        yield cutoff(record, Exact.NEURON, share * activity)
        if record.gates is not None:
            yield cutoff(record, Exact.GATE, share * activity)


def cutoff(record: MlpRecord, of: Exact, density: float) -> Candidate:
    """The cutoff that keeps this share of the neurons."""
    histogram = record.values if of is Exact.NEURON else record.gates
    assert histogram is not None
    threshold = histogram.threshold_at(density)
    return Candidate(Cutoff(of=of, threshold=threshold, density=histogram.density_at(threshold)))


def nested(record: MlpRecord, rank: int) -> Iterator[Candidate]:
    """Neurons sorted by their coarse values, corrected at this rank."""
    values, activity = record.values, record.activity
    for fine in FINE:
        for listed in LISTED:
            threshold, floor = (values.threshold_at(s * activity) for s in (fine, listed))
            density = values.density_at(threshold)
            choice = Nested(
                threshold=threshold,
                floor=floor,
                density=density,
                coarse=max(values.density_at(floor) - density, 0.0),
                rank=rank,
            )
            yield Candidate(choice)


def predicted(block: Block, rank: int, point: Point, lookahead: int) -> Candidate:
    """Units that a predictor of this rank scores above the point's threshold."""
    # A head is needed more or less, never exactly not.
    active = point.active if isinstance(block, MlpBlock) else point.density
    choice = LowRank(
        rank=rank,
        density=point.density,
        active=active,
        threshold=point.threshold,
        lookahead=lookahead,
    )
    return Candidate(choice, point.recall, point.precision)


def probabilities(units: int) -> list[float]:
    """From which on to compute rows of a vocabulary exactly; none where few rows are all."""
    return _shares(units, FEWEST_SKETCHED, PROBABLE)


def first_probabilities(units: int) -> list[float]:
    """From which on a cascade scores rows once more."""
    return _shares(units, FEWEST_REFINED, PROBABLE_FIRST)


def last_probabilities(units: int) -> list[float]:
    """From which on it computes them exactly."""
    return _shares(units, FEWEST_SKETCHED, PROBABLE_LAST)


def _shares(units: int, fewest: int, shares: Sequence[float]) -> list[float]:
    return [share / units for share in shares] if units > fewest else []


def densities(block: Block, record: MlpRecord | None) -> list[float]:
    """Densities to predict at: by how many neurons are active, or by whole heads."""
    if isinstance(block, AttentionBlock):
        return [heads / block.units for heads in range(block.units - 1, 0, -1)]
    assert record is not None
    return of_activity(record, MULTIPLES)


def of_activity(record: MlpRecord, multiples: Iterable[float]) -> list[float]:
    """Densities in shares of the neurons that are active, as far as they are worth it."""
    return [d for m in multiples if (d := m * record.activity) <= MAX_PREDICTED]
