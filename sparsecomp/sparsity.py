"""What a decode step may leave unread, block by block: the words that calibration, passes and
recipes share.

A block is an MLP, an attention or the model's head, named by its module in the model. Its units are
the neurons of the MLP, the heads of the attention, or the head's rows of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto

from sparsecomp import sketches
from sparsecomp.errors import SparsecompError


class Exact(StrEnum):
    """What of a neuron is computed exactly before the rest is skipped."""

    GATE = auto()
    """act(gate . x) of a gated MLP: up and down are skipped (CATS, arXiv 2404.08763)."""
    NEURON = auto()
    """The neuron's whole value: its row of down is skipped."""


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Units chosen by a low-rank predictor (Deja Vu, arXiv 2310.17157, section 4.1).

    The predictor is two linears without an activation between, `rank` wide. It reads the input of
    the block `lookahead` blocks of its kind earlier (0: its own).
    Chosen are the units that score above `threshold` (a logit); or, when `group` is not 0, the
    `count` best of each `group` units in order.
    `density` is the expected share of units chosen. `active` is the expected share that is chosen
    and not 0 (where an activation gives exact zeros; otherwise the same as the density).
    """

    rank: int
    density: float
    active: float
    threshold: float = 0.0
    count: int = 0
    group: int = 0
    lookahead: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SparsecompError(f"rank is {self.rank}; it must be at least 1")
        if self.lookahead not in (0, 1, 2):
            raise SparsecompError(f"lookahead is {self.lookahead}; it must be 0, 1 or 2")
        if not 0 <= self.count <= self.group:
            raise SparsecompError(f"count {self.count} of a group of {self.group} units")
        _check_shares(self.density, self.active)
        _check_threshold(self.threshold)


@dataclass(frozen=True, kw_only=True)
class Approximate:
    """Neurons chosen by a low-rank approximation of their own input matrices (HiRE-LR, arXiv
    2402.09360, section 3.1): the best of its rank for the inputs seen, in closed form.

    A neuron's score is the magnitude of its approximate value times the Euclidean norm of its
    column of down. Those above `threshold` are computed exactly, the rest is skipped. `density` is
    the expected share of neurons chosen, `active` of those that are not 0 besides.
    """

    rank: int
    threshold: float
    density: float
    active: float

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SparsecompError(f"rank is {self.rank}; it must be at least 1")
        _check_shares(self.density, self.active)
        _check_magnitude(self.threshold)


@dataclass(frozen=True, kw_only=True)
class Cutoff:
    """Neurons skipped once a first part of them is known exactly to be small.

    Of a gate: its activation's magnitude is at most `threshold`. Of a neuron: its value's
    magnitude times the Euclidean norm of its column of down is at most `threshold`; 0 skips exact
    zeros alone. `density` is the expected share of neurons that are not skipped.
    """

    of: Exact
    threshold: float
    density: float

    def __post_init__(self) -> None:
        _check_shares(self.density)
        _check_magnitude(self.threshold)


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Neurons sorted by what the high planes of their weights say (HiRE, arXiv 2402.09360, section
    3.2: a quantised copy as predictor). The MLP must be stored in 8 bits, which has the copy in it.

    A neuron's score is the magnitude of its coarse value, by the high planes of (gate and) up,
    times the Euclidean norm of its column of down. Above `threshold` the neuron is computed again
    from all of its weights. Above `floor` its coarse value is used, with the high plane of its
    column of down; the rest is skipped. `density` and `coarse` are the expected shares of the two.

    What the high planes leave out of the products is corrected by a low-rank product of this
    `rank`; 0: by nothing.
    """

    threshold: float
    floor: float
    density: float
    coarse: float
    rank: int = 0

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise SparsecompError(f"rank is {self.rank}; it must be 0 or more")
        _check_shares(self.density, self.coarse, self.density + self.coarse)
        for threshold in (self.threshold, self.floor):
            _check_threshold(threshold)
        if not 0 <= self.floor <= self.threshold:
            raise SparsecompError(
                f"floor is {self.floor}; it must be between 0 and the threshold {self.threshold}"
            )


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """Exact logits for the rows of the vocabulary that score best in a sketch of the head: all its
    rows, at few bits in the principal axes of its input (HiRE, arXiv 2402.09360, section 3, with
    transform coding in place of a low rank or of fewer bits).

    These are the `count` best, and all that are more probable than `probability` by their scores:
    a token of which much is certain has few such, one that could be followed by many has many.
    The other logits are their scores plus `offset`, which was fitted so that probabilities hold:
    the exponential of a score that is a little wrong is too large on average. `density` is the
    expected share of the vocabulary whose logits are exact.
    """

    count: int
    probability: float = 1.0
    density: float
    offset: float

    def __post_init__(self) -> None:
        _check_scored(self.count, self.probability, self.density, self.offset)

    @property
    def bits(self) -> int:
        """Of a coarse weight of the sketch that scores all rows."""
        return sketches.BITS


@dataclass(frozen=True, kw_only=True)
class Cascade(Sketch):
    """A sketch of fewer bits for all rows, and what it leaves of them for those that score best:
    `first_count` of them and all that are more probable than `first_probability`, a share
    `first_density` of the vocabulary, are scored once more before candidates are chosen (HiRE's
    approximation, in two steps). The scores of the others are the first ones plus `first_offset`.
    """

    first_count: int
    first_probability: float = 1.0
    first_density: float
    first_offset: float

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.first_count, self.first_probability, self.first_density, self.first_offset
        _check_scored(*given, prefix="first_")
        if self.first_count < self.count:
            raise SparsecompError(
                f"first_count is {self.first_count}; it must be at least the count {self.count}"
            )

    @property
    def bits(self) -> int:
        return sketches.FIRST_BITS


def _check_scored(
    count: int, probability: float, density: float, offset: float, prefix: str = ""
) -> None:
    """Raises SparsecompError for what cannot choose rows by their scores."""
    if count < 1:
        raise SparsecompError(f"{prefix}count is {count}; it must be at least 1")
    if not 0.0 < probability <= 1.0:
        raise SparsecompError(
            f"{prefix}probability is {probability}; it must be above 0 and at most 1"
        )
    _check_shares(density)
    if not math.isfinite(offset):
        raise SparsecompError(f"{prefix}offset is {offset}; it must be a finite number")


FULL_BITS, FEWER_BITS = 8, (6, 5, 4)
"""Of a weight of a model in 8 bits: as all are kept, and as a narrow block may keep its own."""


@dataclass(frozen=True, kw_only=True)
class Narrow:
    """All units, from weights in fewer bits than the model's 8: no token reads the low ones.

    `bits` are those of the matrices that read the block's input: gate and up of an MLP, the query,
    key and value projections of an attention; of keys and values only if `key_value_bits`, their
    own, is 0. `output_bits` are those of down, or of the output projection. Each is 8, 6, 5 or 4.
    Weights are rounded so that errors make up for each other (GPTQ, arXiv 2210.17323).
    """

    bits: int
    output_bits: int
    key_value_bits: int = 0

    def __post_init__(self) -> None:
        given = {"bits": self.bits, "output_bits": self.output_bits}
        if self.key_value_bits:
            given["key_value_bits"] = self.key_value_bits
        for name, bits in given.items():
            if bits not in (FULL_BITS, *FEWER_BITS):
                raise SparsecompError(f"{name} is {bits}; it must be 8, 6, 5 or 4")
        if set(given.values()) == {FULL_BITS}:
            raise SparsecompError(f"{' and '.join(given)} are {FULL_BITS}: kind: dense says that")

    @property
    def bits_of_keys(self) -> int:
        """Of the key and value projections."""
        return self.key_value_bits or self.bits

    @property
    def density(self) -> float:
        """The share of units that are read."""
        return 1.0


Selective = LowRank | Approximate | Cutoff | Nested | Sketch | Cascade
"""Choices that leave units unread, token by token."""
Choice = Selective | Narrow
KINDS: Mapping[
    str,
    type[LowRank] | type[Approximate] | type[Cutoff] | type[Nested] | type[Sketch] | type[Narrow],
] = {
    "low_rank": LowRank,
    "approximate": Approximate,
    "cutoff": Cutoff,
    "nested": Nested,
    "sketch": Sketch,
    "cascade": Cascade,
    "narrow": Narrow,
}
"""The names of the kinds in IR and recipes."""


def kind_of(choice: Choice) -> str:
    return next(name for name, kind in KINDS.items() if type(choice) is kind)


@dataclass(frozen=True)
class Option:
    """A choice for a block and what it costs: nats a token, measured with this block alone sparse.

    `recall` and `precision` are of the choice against the truth of the dense model; None where the
    choice is exact.
    """

    choice: Choice
    cost: float
    recall: float | None = None
    precision: float | None = None


@dataclass(frozen=True)
class Plan:
    """What `allocate-sparsity` may choose from: options of blocks, and nats a token to spend.

    A block that is not named stays dense. A plan that is `forced` leaves no choice: each block
    takes its one option, whether it pays or not (a recipe, a fixed density).
    """

    options: Mapping[str, tuple[Option, ...]]
    budget: float = math.inf
    forced: bool = False


def _check_shares(*shares: float) -> None:
    for share in shares:
        if not 0.0 <= share <= 1.0 + 1e-9:
            raise SparsecompError(f"a density is {share}; it must be between 0 and 1")


def _check_magnitude(threshold: float) -> None:
    _check_threshold(threshold)
    if threshold < 0:
        raise SparsecompError(f"threshold is {threshold}; a magnitude is never below 0")


def _check_threshold(threshold: float) -> None:
    if not math.isfinite(threshold):
        raise SparsecompError(f"threshold is {threshold}; it must be a finite number")
