"""The scheduled program computes what the functions it was made from compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64

from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.passes import schedule_workers
from sparsecomp.passes.base import PassContext, Weights
from sparsecomp.passes.forms import programs
from sparsecomp.passes.pipeline import PIPELINE, run_pass
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.exec import Session
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.reference.spz import KVCache

POSITIONS = 64
FAMILIES = ("llama", "gpt2", "gemma2", "bloom", "gpt_neox", "cohere2")
MAX_ERROR = 1e-5
"""Relative to the largest logit."""
PROMPT = 11
LENGTH = 16
ROWS = 3
"""Rows of a prompt that a worker takes at once: so few that the prompt is several tiles, the last
one not full, and that the windows' rings wrap."""

SPLIT = 1 + [step.run.name for step in PIPELINE].index("derive-decode")


class Model:
    """A family's module after derive-decode, its weights, and what the reference makes of it."""

    def __init__(self, path: Path):
        exported = export_model(ModelDir.open(path))
        self.module = exported.module
        self.weights: Weights = cache(exported.weights.get)
        for step in PIPELINE[:SPLIT]:
            run_pass(step.run, self.module, self.context(workers=1))
        self.ids = torch.randint(3, 64, (LENGTH,), generator=torch.Generator().manual_seed(0))
        self.expected = self.logits()

    def context(self, workers: int) -> PassContext:
        return PassContext(
            evaluate=evaluate, weights=self.weights, positions=POSITIONS, workers=workers
        )

    def logits(self) -> dict[int, torch.Tensor]:
        """By position: of the first token, of the prompt's last, and of those after it."""
        interpreter = Interpreter(self.module, self.weights, POSITIONS)
        positions, cache = torch.arange(LENGTH), KVCache()
        rows = {}
        for start, end in [(0, 1), (0, PROMPT), *((p, p + 1) for p in range(PROMPT, LENGTH))]:
            function = "decode" if start >= PROMPT else "prefill"
            part = slice(start, end)
            (row,) = interpreter.run(function, self.ids[part], positions[part], cache)
            rows[end - 1] = row.flatten()
        return rows

    def scheduled(self, workers: int) -> ModuleOp:
        """The exec module for a number of workers, in tiles of `ROWS` rows each."""
        module = self.module.clone()
        for step in PIPELINE[SPLIT:]:
            run_pass(step.run, module, self.context(workers))
            if step.run.name == "select-kernels":
                for program in programs(module):
                    if program.tile.value.data > 1:
                        program.properties["tile"] = IntegerAttr(ROWS, i64)
        return module


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, model_dir_of: Callable[[str], Path]) -> Model:
    return Model(model_dir_of(request.param))


@pytest.fixture(scope="module")
def llama(model_dir_of: Callable[[str], Path]) -> Model:
    return Model(model_dir_of("llama"))


def run(module: ModuleOp, model: Model, *, reverse: bool) -> dict[int, torch.Tensor]:
    session = Session(module, model.weights, positions=POSITIONS, reverse=reverse)
    ids = model.ids
    rows = {0: session.prefill(ids[:1], 0), PROMPT - 1: session.prefill(ids[:PROMPT], 0)}
    return rows | {p: session.decode(int(ids[p]), p) for p in range(PROMPT, LENGTH)}


def wrong(rows: dict[int, torch.Tensor], model: Model) -> list[int]:
    """The positions at which logits are not what they must be."""
    assert rows.keys() == model.expected.keys()
    return [
        position
        for position, expected in model.expected.items()
        if not (rows[position] - expected).abs().max() <= MAX_ERROR * expected.abs().max()
    ]


@pytest.fixture(autouse=True)
def everything_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share out what is too small to be worth it in a real model."""
    monkeypatch.setattr(schedule_workers, "SMALL_LINEAR", 600)
    monkeypatch.setattr(schedule_workers, "LARGE_MAP", 32)


@pytest.mark.parametrize("workers", (1, 2, 3))
def test_same_logits_as_spz(model: Model, workers: int) -> None:
    module = model.scheduled(workers)
    forward, backward = (run(module, model, reverse=reverse) for reverse in (False, True))
    assert not wrong(forward, model)
    assert all(torch.equal(forward[p], backward[p]) for p in forward)


def test_prompt_in_two_calls(model: Model) -> None:
    session = Session(model.scheduled(2), model.weights, positions=POSITIONS)
    session.prefill(model.ids[:4], 0)
    logits = session.prefill(model.ids[4:PROMPT], 4)
    assert not wrong(model.expected | {PROMPT - 1: logits}, model)


@pytest.mark.parametrize("name", ("prefill", "decode"))
def test_a_missing_barrier_is_seen(
    llama: Model, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A split map that reads a split linear reads what the same worker wrote, as it happens.
    monkeypatch.setattr(schedule_workers, "LARGE_MAP", 1000)
    module = llama.scheduled(2)
    (program,) = (p for p in programs(module) if p.sym_name.data == name)
    barriers = [op for op in program.body.block.ops if isinstance(op, exec.Barrier)]
    assert len(barriers) > 4
    for index in range(len(barriers)):
        broken = module.clone()
        (program,) = (p for p in programs(broken) if p.sym_name.data == name)
        ops = [op for op in program.body.block.ops if isinstance(op, exec.Barrier)]
        ops[index].detach()
        runs = [run(broken, llama, reverse=reverse) for reverse in (False, True)]
        assert any(wrong(rows, llama) for rows in runs), index


def test_a_wrong_offset_is_seen(llama: Model) -> None:
    module = llama.scheduled(2)
    for program in programs(module):
        for op in program.body.block.ops:
            if isinstance(op, exec.Buffer) and op.space != exec.SpaceAttr(exec.Space.OUTPUT):
                op.properties["offset"] = IntegerAttr(0, i64)
    assert wrong(run(module, llama, reverse=False), llama)


def test_a_unit_that_nobody_does_is_seen(llama: Model) -> None:
    module = llama.scheduled(2)
    for program in programs(module):
        for op in program.body.block.ops:
            if isinstance(op, exec.Mlp) and op.work_of.bounds:
                op.properties["work"] = exec.WorkAttr.of(exec.Mode.SPLIT, [0, 24, 44])
    with pytest.raises(AssertionError, match="nobody does"):
        run(module, llama, reverse=False)


def test_needs_a_schedule() -> None:
    with pytest.raises(SparsecompError, match="no program @prefill"):
        Session(ModuleOp([]), lambda name: torch.empty(0), positions=4)
