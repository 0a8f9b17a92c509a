"""What is told of a search: the recipe and the record that go into the artifact, and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from sparsecomp.calibrate.calibration import Calibration, CalibrationModel
from sparsecomp.evaluate import Estimate
from sparsecomp.passes.allocate_sparsity import Point, allocate
from sparsecomp.passes.blocks import AttentionBlock, Block, HeadBlock, MlpBlock, weight_shapes
from sparsecomp.passes.cost import BlockCost
from sparsecomp.recipe import Recipe, dump_recipe
from sparsecomp.runtime.manifest import BlockKind
from sparsecomp.runtime.record import Attempt as AttemptRecord
from sparsecomp.runtime.record import (
    BlockRecord,
    CurvePoint,
    OptionRecord,
    Ratio,
    Record,
    Split,
    TextSource,
    encode_record,
)
from sparsecomp.sparsity import Choice, Option, Plan
from sparsecomp.texts import Text

from .result import Attempt, Sparsified

CURVE_POINTS = 24
CURVE_SPAN = 256.0
"""The curve goes from the largest spend to this part of it."""

KINDS: dict[type[Block], BlockKind] = {
    MlpBlock: BlockKind.MLP,
    AttentionBlock: BlockKind.ATTENTION,
    HeadBlock: BlockKind.HEAD,
}

Options = Mapping[str, tuple[Option, ...]]


class Reporter:
    """Turns what a search found into what is kept of it."""

    def __init__(self, model: CalibrationModel, calibration: Calibration, texts: Sequence[Text]):
        self.model = model
        self.calibration = calibration
        self.texts = texts
        shapes = weight_shapes(model.module)
        self.costs = {
            name: BlockCost.of(block, shapes, model.dtype)
            for name, block in calibration.blocks.items()
        }

    def forced(self, plan: Plan) -> Sparsified:
        """Choices that were given: nothing was searched."""
        chosen = {name: given[0] for name, given in plan.options.items() if given}
        return self._result(plan, plan.options, chosen, budget=None)

    def found(
        self, options: Options, budget: float, best: Attempt, attempts: Sequence[Attempt]
    ) -> Sparsified:
        chosen = {
            name: next(o for o in options[name] if o.choice == choice)
            for name, choice in best.trial.choices.items()
            if choice is not None
        }
        return self._result(
            Plan(options, best.spend),
            options,
            chosen,
            budget=budget,
            measured=best.ratio,
            attempts=attempts,
        )

    def dense(
        self, options: Options, budget: float, why: str, attempts: Sequence[Attempt]
    ) -> Sparsified:
        return self._result(
            Plan({}), options, {}, budget=budget, dense_because=why, attempts=attempts
        )

    def _result(
        self,
        plan: Plan,
        options: Options,
        chosen: Mapping[str, Option],
        *,
        budget: float | None,
        measured: Estimate | None = None,
        dense_because: str | None = None,
        attempts: Sequence[Attempt] = (),
    ) -> Sparsified:
        choices: dict[str, Choice | None] = {
            name: chosen[name].choice if name in chosen else None for name in self.costs
        }
        splits = self.calibration.splits
        record = Record(
            model=self.model.name,
            budget=budget,
            measured=None if measured is None else _ratio(measured),
            dense_because=dense_because,
            seed=self.calibration.seed,
            texts=tuple(TextSource(text.path.name, text.sha256) for text in self.texts),
            tokens={
                Split.TRAIN: splits.train.tokens,
                Split.SEARCH: splits.search.tokens,
                Split.TEST: splits.test.tokens,
            },
            blocks=tuple(
                self._block(name, chosen.get(name), options.get(name, ())) for name in self.costs
            ),
            curve=self._curve(options) if budget is not None else (),
            attempts=tuple(AttemptRecord(a.spend, _ratio(a.ratio), a.kept) for a in attempts),
        )
        recipe = Recipe(self.model.name, self.calibration.seed, choices, self.model.wider)
        notes = () if dense_because is None else (f"the program is dense: {dense_because}",)
        return Sparsified(
            plan,
            self.calibration,
            dump_recipe(recipe),
            encode_record(record),
            notes,
        )

    def _block(self, name: str, chosen: Option | None, options: Sequence[Option]) -> BlockRecord:
        cost = self.costs[name]
        return BlockRecord(
            module=name,
            kind=KINDS[type(self.calibration.blocks[name])],
            units=cost.units,
            choice=None if chosen is None else chosen.choice,
            density=1.0 if chosen is None else chosen.choice.density,
            recall=None if chosen is None else chosen.recall,
            precision=None if chosen is None else chosen.precision,
            dense_bytes=round(cost.bytes(None)),
            sparse_bytes=round(cost.bytes(None if chosen is None else chosen.choice)),
            cost=0.0 if chosen is None else chosen.cost,
            options=tuple(
                OptionRecord(o.choice, o.cost, o.recall, o.precision, round(cost.bytes(o.choice)))
                for o in options
            ),
        )

    def _curve(self, options: Options) -> tuple[CurvePoint, ...]:
        """For other budgets: the increase that the costs predict, and what blocks would read. Plans
        that read no less than one of a smaller budget are left out."""
        points = {
            name: [
                Point(None, 0.0, cost.cost(None)),
                *(Point(o.choice, max(o.cost, 0.0), cost.cost(o.choice)) for o in options[name]),
            ]
            for name, cost in self.costs.items()
        }
        most = sum(point.nats for point in allocate(points, math.inf).values())
        plans = (
            allocate(points, most * CURVE_SPAN ** (i / (CURVE_POINTS - 1) - 1))
            for i in range(CURVE_POINTS)
        )
        return falling(self._curve_point(plan) for plan in plans)

    def _curve_point(self, plan: Mapping[str, Point]) -> CurvePoint:
        increase = math.expm1(sum(point.nats for point in plan.values()))
        read = sum(self.costs[name].bytes(point.choice) for name, point in plan.items())
        return CurvePoint(increase, round(read))


def falling(points: Iterable[CurvePoint]) -> tuple[CurvePoint, ...]:
    """Those that read less than all before them."""
    found: list[CurvePoint] = []
    for point in points:
        if not found or point.bytes_per_token < found[-1].bytes_per_token:
            found.append(point)
    return tuple(found)


def _ratio(estimate: Estimate) -> Ratio:
    return Ratio(estimate.value, estimate.low, estimate.high)
