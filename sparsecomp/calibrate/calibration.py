"""A model's calibration: recorded once, then asked for predictors and for the price of choices."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.dialects import spz
from sparsecomp.errors import SparsecompError
from sparsecomp.observer import Observer
from sparsecomp.options import Dtype
from sparsecomp.passes.base import function
from sparsecomp.passes.blocks import (
    AttentionBlock,
    Block,
    HeadBlock,
    MlpBlock,
    blocks,
    weight_shapes,
)
from sparsecomp.passes.build import shape_of
from sparsecomp.passes.insert_predictors import approximation_names
from sparsecomp.passes.narrow import has_long_rows, narrowed, refusal, rounded_name
from sparsecomp.passes.quantize_weights import approximation_dtypes, stored_bits
from sparsecomp.recipe import Recipe
from sparsecomp.reference.evaluate import Derived, Scope, Weights, execute, weight_of
from sparsecomp.reference.spz import coarse
from sparsecomp.rounding import Rounded, rounded
from sparsecomp.sparsity import (
    FULL_BITS,
    Approximate,
    Cascade,
    Choice,
    Exact,
    LowRank,
    Narrow,
    Nested,
    Option,
    Plan,
    Sketch,
)

from .approximation import Approximation, Inputs, approximate
from .candidates import (
    APPROXIMATED,
    FEWEST_REFINED,
    FEWEST_SKETCHED,
    approximated,
    approximation_ranks,
    cutoff,
    cutoffs,
    densities,
    first_probabilities,
    last_probabilities,
    narrow,
    nested,
    of_activity,
    predicted,
    probabilities,
    ranks,
)
from .collect import Moments, collect
from .correction import ALIGN, correction, rank_for
from .gptq import Compensation, gptq
from .low_rank import First, Point, Predictor, Rows, Trained, held_rows, measure, train
from .material import heads_material, neurons_material
from .price import Candidate, price
from .recordings import Recordings
from .resumable import Resumable
from .sketch import HeadSketch, fit, fit_cascade, recall
from .store import Store
from .text import Split, Splits

HALF = 0.5
"""Of the heads: those that a predictor of heads learns to tell from the others."""
PRICED_WINDOWS = 2
FITTED_ROWS = 192
"""Inputs of a head that the offsets of its sketch are fitted on."""


@dataclass(frozen=True)
class CalibrationModel:
    """What calibration reads of a model: `module` holds @forward after raise-head, `dtype` is how
    its weights will be stored; `identity` names the model's files as they are, so that work on
    other files is not taken for this; `tokenizer` is its tokenizer.json, which may be missing."""

    name: str
    module: ModuleOp
    weights: Weights
    positions: int
    dtype: Dtype
    wider: tuple[str, ...]
    identity: str
    tokenizer: Path


class Calibration:
    """What a model does on text, recorded in `directory`. A recipe that is to be followed may ask
    for more of it.

    Raises SparsecompError as `collect` does, and before that for a choice of the recipe that its
    block cannot become.
    """

    def __init__(
        self,
        model: CalibrationModel,
        splits: Splits,
        directory: Path,
        *,
        seed: int,
        lookahead: int,
        observer: Observer,
        recipe: Recipe | None = None,
    ):
        self.model = model
        self.splits = splits
        self.seed = seed
        self.lookahead = lookahead
        self.observer = observer
        # Each weight is read many times; as float32 they are held once.
        self.weights = functools.cache(model.weights)
        self.blocks = {b.module: b for b in blocks(function(model.module, "forward"))}
        for module, choice in {} if recipe is None else recipe.blocks.items():
            if choice is not None and module in self.blocks:
                self._check(self.blocks[module], choice)
        observer.stage("calibrate", f"{splits.train.tokens:,} tokens to learn from")
        moments = self._moments(recipe)
        key = f"{model.identity} {splits.train.sha256} {moments.name.lower()} weighed moments"
        self.store = Store(directory, f"{key} seed {seed} lookahead {lookahead}")
        self.recordings: Recordings = collect(
            model.module,
            self.weights,
            splits.train.windows,
            self.store.recordings,
            key,
            modules=self.blocks,
            moments=moments,
            observer=observer,
        )
        self._trained: dict[tuple[str, int], Trained] = {}
        self._approximations: dict[tuple[str, int], Approximation] = {}
        self._corrections: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self._sketches: dict[str, HeadSketch] = {}
        self._rounded: dict[tuple[str, int], Rounded] = {}
        # Asked for in turn for each width of a block's weights.
        self._compensations = functools.lru_cache(maxsize=4)(self._compensate)

    def _moments(self, recipe: Recipe | None) -> Moments:
        """The second moments that something may be made of: rounded weights, what corrects coarse
        neurons, an approximation."""
        if self.model.dtype is Dtype.INT8:
            return Moments.ALL
        choices = () if recipe is None else recipe.blocks.values()
        approximate = any(isinstance(choice, Approximate) for choice in choices)
        if approximate or any(isinstance(block, MlpBlock) for block in self._predictable()):
            return Moments.MLP_INPUTS
        return Moments.NONE

    # ---- predictors ----

    def train(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Train predictors of these modules and ranks, those that the store does not hold yet."""
        self.observer.stage("train predictors", f"{len(wanted)} of rank {_span(wanted)}")
        for done, (module, rank) in enumerate(wanted, start=1):
            self.trained(module, rank)
            self.observer.progress(done, len(wanted))

    def trained(self, module: str, rank: int) -> Trained:
        """The predictor of a block at a rank, with a point for each density worth a price."""
        if (module, rank) not in self._trained:
            name = f"{module}.{rank}"
            found = self.store.get(name)
            if found is None:
                found = self._train(self.blocks[module], rank)
                self.store.put(name, found)
            self._trained[module, rank] = found
        return self._trained[module, rank]

    def predictor(self, module: str, rank: int) -> Predictor:
        """The predictor of a block at a rank."""
        return self.trained(module, rank).predictor

    def points(self, module: str, rank: int, densities: Sequence[float]) -> tuple[Point, ...]:
        """How a predictor does when it chooses about these shares of the units."""
        block, predictor = self.blocks[module], self.predictor(module, rank)
        if isinstance(block, MlpBlock):
            rows, _ = self._neurons(block)
            return measure(predictor, rows, held_rows(len(rows)), densities)
        assert isinstance(block, AttentionBlock)
        # Which heads are needed depends on how many are.
        found: list[Point] = []
        for density in densities:
            rows = self._heads(block, density)
            found += measure(predictor, rows, held_rows(len(rows)), [density])
        return tuple(found)

    def _train(self, block: Block, rank: int) -> Trained:
        if isinstance(block, MlpBlock):
            rows, first = self._neurons(block)
            return train(rows, rank, first=first, seed=self.seed)
        assert isinstance(block, AttentionBlock)
        return train(self._heads(block, HALF), rank, seed=self.seed)

    def _neurons(self, block: MlpBlock) -> tuple[Rows, First]:
        scope = Scope(1, self.weights, Derived(self.model.positions))
        return neurons_material(
            self.recordings,
            list(self.blocks.values()),
            block,
            lambda name: weight_of(block.op, name, scope),
            self.lookahead,
        )

    def _heads(self, block: AttentionBlock, density: float) -> Rows:
        blocks = list(self.blocks.values())
        return heads_material(self.recordings, blocks, block, density, self.lookahead)

    # ---- approximations of an MLP's neurons ----

    def approximation(self, module: str, rank: int) -> Approximation:
        """Of the neurons of an MLP at a rank."""
        if (module, rank) not in self._approximations:
            block, moments = self.blocks[module], self.recordings.mlps[module].moments
            assert isinstance(block, MlpBlock) and moments is not None
            scope = Scope(1, self.weights, Derived(self.model.positions))
            given = Inputs.of(block.op, lambda name: weight_of(block.op, name, scope))
            bits = self._approximate_bits(block, rank) or 32
            made = approximate(given, moments, rank, bits, self.seed)
            self._approximations[module, rank] = made
        return self._approximations[module, rank]

    def _approximate_bits(self, block: MlpBlock, rank: int) -> int:
        """What an approximation is quantised to; 0: not at all."""
        _, dtype = approximation_dtypes(self.model.dtype)
        _, *names, _ = approximation_names(block.module)
        return stored_bits(names, [rank], dtype, self.model.wider)

    def _approximated(self, block: MlpBlock) -> Iterator[Candidate]:
        """Choices by approximations, where neurons are exactly 0 (see `_predictable`)."""
        record = self.recordings.mlps[block.module]
        if record.inputs is None or record.labels is None:
            return
        rows = Rows(record.inputs, record.labels, block.units)
        quantised = self._approximate_bits(block, ALIGN) > 0
        worth = of_activity(record, APPROXIMATED)
        for rank in approximation_ranks(_inputs(block), quantised):
            made = self.approximation(block.module, rank)
            for point in measure(made, rows, held_rows(len(rows)), worth):
                yield approximated(rank, point)

    # ---- what the high planes of an MLP leave out ----

    def correction(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(basis, factors), float32, of a nested MLP."""
        if (module, rank) not in self._corrections:
            self._corrections[module, rank] = self._correct(module, rank)
        return self._corrections[module, rank]

    def _correct(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        block, moments = self.blocks[module], self.recordings.mlps[module].moments
        assert isinstance(block, MlpBlock) and moments is not None
        scope = Scope(1, self.weights, Derived(self.model.positions))
        parts = [weight_of(block.op, name, scope) for name in _rows_of(block)]
        missing = torch.stack([part - coarse(part) for part in parts], 1).flatten(0, 1)
        return correction(missing, moments, rank, self.seed)

    def _nested(self, block: MlpBlock) -> Iterator[Candidate]:
        """Choices by the high planes, where the block has them."""
        shapes = weight_shapes(self.model.module)
        names = [*_rows_of(block), block.op.down.string_value()]
        widths = [*(shapes[name][1] for name in names[:-1]), shapes[names[-1]][0]]
        if stored_bits(names, widths, self.model.dtype, self.model.wider) == 8:
            record = self.recordings.mlps[block.module]
            yield from nested(record, rank_for(_inputs(block)))

    # ---- fewer bits of a block's weights ----

    def narrow(self, module: str, choice: Narrow) -> Mapping[str, torch.Tensor]:
        """What a narrow block reads in fewer bits, float32, by the names that `rounded_name` gives
        it."""
        block = self.blocks[module]
        assert not isinstance(block, HeadBlock)
        return {
            rounded_name(name, part.bits): self._in_bits(block, name, part.bits)
            for part in narrowed(block, choice)
            if part.bits < FULL_BITS
            for name in part.weights
        }

    def _in_bits(self, block: MlpBlock | AttentionBlock, weight: str, bits: int) -> torch.Tensor:
        value = weight_of(block.op, weight, Scope(1, self.weights, Derived(self.model.positions)))
        if (weight, bits) not in self._rounded:
            compensations = self._compensations(block, weight)
            self._rounded[weight, bits] = rounded(gptq(value, bits, compensations), bits)
        return self._rounded[weight, bits].values(value.shape[1])

    def _compensate(self, block: MlpBlock | AttentionBlock, weight: str) -> list[Compensation]:
        """By the moments of what a weight of a block is multiplied with."""
        return [Compensation.by(piece) for piece in self._moments_of(block, weight)]

    def _moments_of(
        self, block: MlpBlock | AttentionBlock, weight: str
    ) -> tuple[torch.Tensor, ...]:
        if isinstance(block, MlpBlock):
            mlp = self.recordings.mlps[block.module]
            assert mlp.moments is not None
            return mlp.neuron_moments if weight == block.op.down.string_value() else (mlp.moments,)
        attention = self.recordings.attentions[block.module]
        pairs = (
            (block.query, attention.query_moments),
            (block.key, attention.key_moments),
            (block.value, attention.value_moments),
            (block.output, attention.head_moments),
        )
        return next(m for op, m in pairs if op is not None and op.weight.string_value() == weight)

    def _narrow(self, block: MlpBlock | AttentionBlock) -> Iterator[Candidate]:
        """Choices with fewer bits, where the block has more."""
        if has_long_rows(block, weight_shapes(self.model.module)):
            for choice in narrow(block):
                if refusal(block, choice, self.model.dtype, self.model.wider) is None:
                    yield Candidate(choice)

    # ---- the sketch of the head ----

    def sketch(self, module: str) -> HeadSketch:
        """The sketch of a head."""
        if module not in self._sketches:
            block = self.blocks[module]
            assert isinstance(block, HeadBlock)
            scope = Scope(1, self.weights, Derived(self.model.positions))
            names = (block.op.weight, block.op.bias)
            weight, bias = (
                None if name is None else weight_of(block.op, name.string_value(), scope)
                for name in names
            )
            assert weight is not None
            inputs = self.recordings.heads[module].inputs
            self._sketches[module] = HeadSketch.of(weight, bias, inputs)
        return self._sketches[module]

    def _sketched(self, block: HeadBlock, model: Resumable) -> list[Candidate]:
        """The head by its sketch, or a cascade, with as many candidates as are worth a price."""
        inputs = self.recordings.heads[block.module].inputs
        at = torch.linspace(0, len(inputs) - 1, min(FITTED_ROWS, len(inputs))).long()
        x = inputs[at].float()
        scope = model.scope(len(x))
        (logits,) = execute([block.op], [block.op.result], {block.op.x: x}, scope)
        scores = self.sketch(block.module).scores(x)
        finish = functools.partial(model.finish, block)
        choices = [
            fit(FEWEST_SKETCHED, probability, logits, scores.plain, finish)
            for probability in probabilities(block.units)
        ]
        if scores.first is not None:
            for first in first_probabilities(block.units):
                worth = fit(FEWEST_REFINED, first, logits, scores.first, finish)
                choices += [
                    fit_cascade(worth, FEWEST_SKETCHED, last, logits, scores, finish)
                    for last in last_probabilities(block.units)
                ]
        return [Candidate(choice, recall(choice, logits, scores)) for choice in choices]

    # ---- choices ----

    def options(self) -> dict[str, tuple[Option, ...]]:
        """What each block may become, with its price on the search split."""
        wanted = [(b.module, rank) for b in self._predictable() for rank in ranks(b, _inputs(b))]
        self.train(wanted)
        candidates: dict[str, list[Candidate]] = {name: [] for name in self.blocks}
        for module, rank in wanted:
            block = self.blocks[module]
            worth = densities(block, self.recordings.mlps.get(module))
            points = self.points(module, rank, worth)
            candidates[module] += [predicted(block, rank, p, self.lookahead) for p in points]
        model = Resumable(self.model.module, self.weights, self.model.positions)
        for block in self.blocks.values():
            if isinstance(block, MlpBlock):
                candidates[block.module] += cutoffs(block, self.recordings.mlps[block.module])
                candidates[block.module] += self._nested(block)
                candidates[block.module] += self._approximated(block)
            if isinstance(block, HeadBlock):
                candidates[block.module] += self._sketched(block, model)
            else:
                candidates[block.module] += self._narrow(block)
        self.observer.stage("price", f"{sum(map(len, candidates.values())):,} choices")
        windows = _spread(self.splits.search, PRICED_WINDOWS)
        return price(model, windows, candidates, self, self.observer)

    def _predictable(self) -> list[Block]:
        """Blocks whose units a low rank predicts: attentions, and MLPs of which most neurons are
        exactly 0. What no neuron leaves out for certain, a low-rank product does not tell apart,
        learned or not (measured on SwiGLU models)."""
        return [
            block
            for block in self.blocks.values()
            if isinstance(block, AttentionBlock)
            or (isinstance(block, MlpBlock) and block.exact_zeros)
        ]

    def fixed(self, density: float) -> Plan:
        """Every MLP at one density: predicted where activations are exactly sparse, else cut off
        by its gate, or by the neuron's value where there is no gate."""
        if density == 1.0:
            return Plan({}, forced=True)
        predictable = {block.module for block in self._predictable()}
        found: dict[str, tuple[Option, ...]] = {}
        for block in self.blocks.values():
            if not isinstance(block, MlpBlock):
                continue
            if block.module in predictable:
                rank = ranks(block, _inputs(block))[0]
                (point,) = self.points(block.module, rank, [density])
                candidate = predicted(block, rank, point, self.lookahead)
            else:
                record = self.recordings.mlps[block.module]
                of = Exact.NEURON if record.gates is None else Exact.GATE
                candidate = cutoff(record, of, density)
            found[block.module] = (unpriced(candidate),)
        return Plan(found, forced=True)

    def follow(self, recipe: Recipe) -> Plan:
        """The plan of a recipe; trains the predictors that it names."""
        wanted = [
            (module, choice.rank)
            for module, choice in recipe.blocks.items()
            if isinstance(choice, LowRank) and module in self.blocks
        ]
        self.train(wanted)
        return recipe.plan()

    def _check(self, block: Block, choice: Choice) -> None:
        """Raises SparsecompError for a choice that a block cannot become."""
        _check_fits(block, choice)
        problem = None
        match choice:
            case LowRank() if isinstance(block, HeadBlock):
                problem = "low_rank is for neurons; kind: sketch would work"
            case LowRank() if block not in self._predictable():
                problem = (
                    "low_rank needs an activation that gives exact zeros, such as ReLU; kind: "
                    "cutoff would work"
                )
            case Narrow() if not isinstance(block, HeadBlock):
                problem = refusal(block, choice, self.model.dtype, self.model.wider)
        if problem is not None:
            raise SparsecompError(f"{block.module}: {problem}")


def unpriced(candidate: Candidate) -> Option:
    return Option(candidate.choice, 0.0, candidate.recall, candidate.precision)


def _rows_of(block: MlpBlock) -> list[str]:
    """The matrices of a block whose rows are neurons: (gate,) up."""
    gate = [block.op.gate] if isinstance(block.op, spz.GatedMlp) else []
    return [symbol.string_value() for symbol in (*gate, block.op.up)]


def _check_fits(block: Block, choice: Choice) -> None:
    """Raises SparsecompError for a rank or a count that the block is too small for."""
    inputs = _inputs(block)
    match choice:
        case LowRank() if choice.rank > (most := min(inputs, block.units)):
            problem = f"rank is {choice.rank}; it can be {most} at most here"
        case Nested() | Approximate() if choice.rank > inputs:
            problem = f"rank is {choice.rank}; it can be {inputs} at most here"
        case Sketch() if isinstance(block, HeadBlock) and choice.count > block.units:
            problem = f"count is {choice.count}; the vocabulary has {block.units:,} rows"
        case Cascade() if isinstance(block, HeadBlock) and choice.first_count > block.units:
            given = choice.first_count
            problem = f"first_count is {given}; the vocabulary has {block.units:,} rows"
        case _:
            return
    raise SparsecompError(f"{block.module}: {problem}")


def _inputs(block: Block) -> int:
    """Numbers in a row of a block's input."""
    return shape_of(block.input)[-1]


def _span(wanted: Sequence[tuple[str, int]]) -> str:
    found = sorted({rank for _, rank in wanted})
    return ", ".join(map(str, found)) or "none"


def _spread(split: Split, count: int) -> list[np.ndarray]:
    """So many windows of a split, from all over it."""
    last = len(split.windows) - 1
    at = sorted({round(last * i / max(count - 1, 1)) for i in range(count)})
    return [split.windows[i] for i in at]
