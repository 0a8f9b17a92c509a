"""Plans are tried until one keeps the budget and uses it.

What is checked is what runs: artifacts are compiled for this machine, and their own decode path
predicts text that no predictor was trained on, beside the dense artifact.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Tokenizer

import sparsecomp.runtime as rt
from sparsecomp import evaluate
from sparsecomp.calibrate.calibration import Calibration, CalibrationModel
from sparsecomp.calibrate.text import read_texts, split
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate import ArtifactLogits, Window
from sparsecomp.evaluate.logits import FIRST_DECODED
from sparsecomp.evaluate.scores import Floats
from sparsecomp.evaluate.texts import encode
from sparsecomp.observer import Observer
from sparsecomp.options import SparsityOptions
from sparsecomp.recipe import Recipe
from sparsecomp.runtime.text import parse_tokenizer
from sparsecomp.sparsity import Approximate, Choice, Cutoff, LowRank, Nested, Option, Plan

from .report import Reporter
from .result import Attempt, Sparsified, Trial, TryOut
from .steering import next_spend

WINDOW = 256
"""Tokens in a sequence of calibration text."""
LEARNED_SHIFT = 0.12
"""How far text of another kind may move the mean change of a token's cost, in standard deviations
of that change, where what chooses was fitted to text: predictors, approximations. Measured on a
model of Wikipedia, with predictors: up to 0.08 on film reviews and on a novel."""
OWN_SHIFT = 0.05
"""The same where blocks choose by values of their own alone. Measured on three texts: 0.07 in root
mean square, of which 0.05 is the error of measuring it on 768 tokens of each."""
ABOVE_PREDICTED = 1.05
"""Times what was predicted for it: the most that a plan costs on text of another kind, where only
bits are left out of weights, by narrow blocks and a sketch. Six plans for SmolLM2 cost 0.87, 0.87,
0.93, 1.01, 1.02 and 1.05 times that on three unseen texts (up to 8,128 tokens of each, with an
error of 0.13 times), and 0.28 to 0.55 times on the search text, whose kind the rounding knew. With
three times as much text to learn from two plans cost 0.73 and 0.81 times that on four unseen texts,
on the worst of them 1.04 and 1.35 times (with an error of 0.4), on the search text 0.53 and 0.9."""
FIRST_SHARE = 0.5
"""Of the budget, to be spent by the costs as predicted in the first attempt."""
ATTEMPTS = 5
SPEED_TOKENS, SPEED_ROUNDS = 64, 25


def sparsify(
    model: CalibrationModel,
    options: SparsityOptions,
    recipe: Recipe | None,
    near: Path,
    try_out: TryOut,
    observer: Observer,
) -> Sparsified:
    """What a compile leaves unread; with a recipe, what that says. Scratch files lie beside `near`,
    the artifact to be.

    Raises SparsecompError for text or a recipe that does not suit the model, a model without a
    tokenizer, or activations that are not finite.
    """
    texts = read_texts(options.calibration)
    tokenizer = _tokenizer(model)
    window = min(WINDOW, model.positions)
    splits = split(texts, lambda text: encode(tokenizer, text), window=window)
    with tempfile.TemporaryDirectory(prefix=f".{near.name}.", dir=near.parent) as scratch:
        work = Path(scratch)
        calibration = Calibration(
            model,
            splits,
            options.calibration_dir or work / "calibration",
            seed=options.seed if recipe is None else recipe.seed,
            lookahead=options.lookahead,
            observer=observer,
            recipe=recipe,
        )
        reporter = Reporter(model, calibration, texts)
        if recipe is not None:
            return reporter.forced(calibration.follow(recipe))
        if options.density is not None:
            return reporter.forced(calibration.fixed(options.density))
        observer.stage("dense", "the program to compare with")
        dense_trial = try_out(None, work / "dense.spz")
        with rt.load(work / "dense.spz", device="cpu") as dense:
            budget = options.max_ppl_increase
            search = _Search(calibration, dense, dense_trial, budget, work, try_out, observer)
            return search.run(reporter)


def _tokenizer(model: CalibrationModel) -> Tokenizer:
    if not model.tokenizer.is_file():
        raise SparsecompError(f"{model.tokenizer} is missing: calibration reads text")
    return parse_tokenizer(model.tokenizer.read_bytes(), str(model.tokenizer))


class _Search:
    """Attempts at one budget."""

    def __init__(
        self,
        calibration: Calibration,
        dense: rt.Model,
        dense_trial: Trial,
        budget: float,
        work: Path,
        try_out: TryOut,
        observer: Observer,
    ):
        self.calibration = calibration
        self.dense = dense
        self.dense_trial = dense_trial
        self.budget = budget
        self.work = work
        self.try_out = try_out
        self.observer = observer
        self.windows = [Window(ids, FIRST_DECODED) for ids in calibration.splits.search.windows]

    def run(self, reporter: Reporter) -> Sparsified:
        options = self.calibration.options()
        self.observer.stage("check", f"dense, {len(self.windows)} windows of text")
        self.dense_costs = evaluate.costs(ArtifactLogits(self.dense), self.windows, self.observer)
        attempts = self._attempts(options)
        sparse = [a for a in attempts if a.kept and not a.trial.is_dense]
        best = min(sparse, key=lambda a: a.trial.bytes_per_token, default=None)
        if best is None:
            tried = any(not a.trial.is_dense for a in attempts)
            why = (
                f"nothing that was tried keeps perplexity within {self.budget:.2%} of dense"
                if tried
                else "no block of the model is faster when sparse within the budget"
            )
        elif (slower := self._slower(options, best, attempts[-1])) is not None:
            why = slower
        else:
            return reporter.found(options, self.budget, best, attempts)
        return reporter.dense(options, self.budget, why, attempts)

    def _attempts(self, options: Mapping[str, tuple[Option, ...]]) -> list[Attempt]:
        """Plans from the predicted spend towards the one whose measured ratio uses the budget."""
        spend: float | None = FIRST_SHARE * math.log1p(self.budget)
        attempts: list[Attempt] = []
        while spend is not None and len(attempts) < ATTEMPTS:
            attempt = self._attempt(Plan(options, spend), len(attempts) + 1)
            if attempts and attempt.trial == attempts[-1].trial:
                break
            attempts.append(attempt)
            spend = next_spend([(attempt.spend, attempt.used) for attempt in attempts])
        return attempts

    def _attempt(self, plan: Plan, number: int) -> Attempt:
        self.observer.stage("check", f"attempt {number}, {len(self.windows)} windows of text")
        path = self.work / "attempt.spz"
        trial = self.try_out(Sparsified(plan, self.calibration), path)
        with rt.load(path, device="cpu") as model:
            costs = evaluate.costs(ArtifactLogits(model), self.windows, self.observer)
        ratio = evaluate.ratio(costs, self.dense_costs, self.windows)
        elsewhere = cost_elsewhere(plan.budget, trial.choices.values(), costs - self.dense_costs)
        used = max(math.log(ratio.high), elsewhere) / math.log1p(self.budget)
        return Attempt(plan.budget, trial, ratio, used)

    def _slower(
        self, options: Mapping[str, tuple[Option, ...]], best: Attempt, last: Attempt
    ) -> str | None:
        """That the sparse program takes longer than the dense one here, if it does: both decode
        the same text, in turn."""
        self.observer.stage("speed", "sparse beside dense")
        path = self.work / "attempt.spz"
        if best is not last:  # which is there still
            self.try_out(Sparsified(Plan(options, best.spend), self.calibration), path)
        ids = self.windows[0].ids[: SPEED_TOKENS + 1].tolist()
        with rt.load(path, device="cpu") as sparse:
            _decode_seconds(sparse, ids), _decode_seconds(self.dense, ids)
            ratios = [
                _decode_seconds(sparse, ids) / _decode_seconds(self.dense, ids)
                for _ in range(SPEED_ROUNDS)
            ]
        ratio = statistics.median(ratios)
        if ratio < 1:
            return None
        return (
            f"the sparse program takes {ratio:.2f} times as long as the dense one on this machine"
        )


def cost_elsewhere(predicted: float, choices: Iterable[Choice | None], change: Floats) -> float:
    """What choices may cost on text of another kind, in nats a token: by what was predicted for all
    of them, or by what was measured, the `change` of each token's cost (n,)."""
    taken = list(choices)
    if any(isinstance(choice, LowRank | Approximate) for choice in taken):
        shift = LEARNED_SHIFT
    elif any(isinstance(choice, Cutoff | Nested) for choice in taken):
        shift = OWN_SHIFT
    else:
        return ABOVE_PREDICTED * predicted
    return float(change.mean() + shift * change.std())


def _decode_seconds(model: rt.Model, ids: list[int]) -> float:
    """Seconds to decode the tokens after the first."""
    with model.session(len(ids)) as session:
        session.prefill(ids[:1])
        started = time.perf_counter()
        for token in ids[1:]:
            session.decode(token)
        return time.perf_counter() - started
