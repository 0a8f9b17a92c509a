"""The ranks of a sharded model, run side by side, compute what the model computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch
from families import make_model_dir
from imposed import impose
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64

from sparsecomp.dialects import exec, spz
from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.passes.base import PassContext, Weights
from sparsecomp.passes.forms import programs
from sparsecomp.passes.pipeline import LOWERING, RAISING, run_pass
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.exec import Session
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.reference.spz import KVCache
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import Approximate, Cutoff, Exact, LowRank, Sketch

POSITIONS, PROMPT, LENGTH, ROWS = 64, 7, 10, 2
MAX_ERROR = 1e-5
"""Relative to the largest logit: sums are made in another order."""

SHARD = [step.run.name for step in LOWERING].index("shard")
IDS = torch.randint(3, 64, (LENGTH,), generator=torch.Generator().manual_seed(0))

Run = Callable[[ModuleOp, Weights, Callable[[torch.Tensor], torch.Tensor] | None], torch.Tensor]


class Model:
    """A model of two layers; `sparse` is what its decode step leaves out."""

    def __init__(self, path: Path, sparse: Sparsified | None = None):
        exported = export_model(ModelDir.open(path))
        self.module = exported.module
        self.plan = None if sparse is None else sparse.plan
        given: dict[str, torch.Tensor] = {}
        if sparse is not None:
            given = sparse.weights({n: o[0].choice for n, o in sparse.plan.options.items()})
        self.weights: Weights = cache(
            lambda name: given[name] if name in given else exported.weights.get(name)
        )
        for step in (*RAISING, *LOWERING[:SHARD]):
            run_pass(step.run, self.module, self.context(0, 1))

    def context(self, rank: int, ranks: int) -> PassContext:
        return PassContext(
            evaluate=evaluate,
            weights=self.weights,
            positions=POSITIONS,
            workers=2,
            plan=self.plan,
            rank=rank,
            ranks=ranks,
        )

    def of(self, rank: int, ranks: int) -> ModuleOp:
        """One rank's functions."""
        module = self.module.clone()
        run_pass(LOWERING[SHARD].run, module, self.context(rank, ranks))
        return module

    def scheduled(self, rank: int, ranks: int) -> ModuleOp:
        """One rank's programs, in tiles of `ROWS` rows a worker."""
        module = self.of(rank, ranks)
        for step in LOWERING[SHARD + 1 :]:
            run_pass(step.run, module, self.context(rank, ranks))
            if step.run.name == "select-kernels":
                for program in programs(module):
                    if program.tile.value.data > 1:
                        program.properties["tile"] = IntegerAttr(ROWS, i64)
        return module

    def side_by_side(self, modules: Sequence[ModuleOp], run: Run) -> torch.Tensor:
        """What the ranks give of the vocabulary, one behind the other."""
        parts: list[torch.Tensor] = [torch.empty(0)] * len(modules)
        barrier = threading.Barrier(len(modules), timeout=60)

        def rank(number: int) -> torch.Tensor:
            def add_up(x: torch.Tensor) -> torch.Tensor:
                parts[number] = x
                barrier.wait()
                total = torch.stack(parts).sum(0)
                barrier.wait()
                return total

            try:
                return run(modules[number], self.weights, add_up)
            except BaseException:
                barrier.abort()
                raise

        with ThreadPoolExecutor(len(modules)) as pool:
            return torch.cat(list(pool.map(rank, range(len(modules)))), dim=-1)


def functions(
    module: ModuleOp, weights: Weights, add_up: Callable[[torch.Tensor], torch.Tensor] | None
) -> torch.Tensor:
    """Logits of the prompt's last token and of those after it."""
    interpreter = Interpreter(module, weights, POSITIONS, add_up)
    positions, kv = torch.arange(LENGTH), KVCache()
    rows = [*interpreter.run("prefill", IDS[:PROMPT], positions[:PROMPT], kv)]
    for p in range(PROMPT, LENGTH):
        rows += interpreter.run("decode", IDS[p : p + 1], positions[p : p + 1], kv)
    return torch.cat(rows)


def programs_in(reverse: bool) -> Run:
    """The same of the scheduled programs, the workers in order or the last one first."""

    def run(
        module: ModuleOp, weights: Weights, add_up: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> torch.Tensor:
        session = Session(module, weights, positions=POSITIONS, reverse=reverse, add_up=add_up)
        rows = [session.prefill(IDS[:PROMPT], 0)]
        rows += [session.decode(int(IDS[p]), p) for p in range(PROMPT, LENGTH)]
        return torch.stack(rows)

    return run


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def sums(module: ModuleOp) -> list[bool]:
    """Of each sum over ranks in @decode, whether this rank has something to add."""
    (decode,) = (
        op for op in module.ops if getattr(op, "sym_name", None) and op.sym_name.data == "decode"
    )
    return [op.x is not None for op in decode.walk() if isinstance(op, spz.AllReduce)]


# llama has 2 groups of keys and values for 3 ranks; gpt_oss sinks and experts, mpt slopes, cohere
# an MLP beside its attention and a scale behind its head.
@pytest.mark.parametrize(
    ("family", "ranks", "kept"),
    [
        ("llama", 3, [False, True, False, True]),
        ("gpt_oss", 2, [True, True]),
        ("mpt", 4, [True, True, True, True]),
        ("cohere", 2, [True, True, True, True]),
    ],
)
def test_all_ranks_together_are_the_model(
    family: str, ranks: int, kept: list[bool], model_dir_of: Callable[[str], Path]
) -> None:
    model = Model(model_dir_of(family))
    expected = functions(model.module, model.weights, None)
    modules = [model.of(rank, ranks) for rank in range(ranks)]
    assert sums(modules[-1]) == kept
    assert error(model.side_by_side(modules, functions), expected) < MAX_ERROR
    scheduled = [model.scheduled(rank, ranks) for rank in range(ranks)]
    for reverse in (False, True):
        actual = model.side_by_side(scheduled, programs_in(reverse))
        assert error(actual, expected) < MAX_ERROR


def test_each_rank_selects_from_its_own(tmp_path: Path) -> None:
    """By scores in groups of 8 of 48 neurons, by exact values and by approximate ones."""
    path = make_model_dir("opt", tmp_path, num_hidden_layers=3)
    layer = "model.decoder.layers.{}"
    sparse = impose(
        {
            layer.format(0): LowRank(rank=4, count=2, group=8, density=0.25, active=0.25),
            layer.format(1): Cutoff(of=Exact.NEURON, threshold=0.1, density=0.4),
            layer.format(2): Approximate(rank=4, threshold=0.1, density=0.4, active=0.4),
        },
        32,
        48,
    )
    model = Model(path, sparse)
    expected = functions(model.module, model.weights, None)
    modules = [model.of(rank, 4) for rank in range(4)]
    kept = [op.result.type.get_shape() for op in modules[0].walk() if isinstance(op, spz.Select)]
    assert kept == [(1, 16), (1, 12), (1, 12)]
    assert error(model.side_by_side(modules, functions), expected) < MAX_ERROR
    scheduled = [model.scheduled(rank, 4) for rank in range(4)]
    assert any(isinstance(op, exec.SparseMlp) for op in scheduled[0].walk())
    actual = model.side_by_side(scheduled, programs_in(False))
    assert error(actual, expected) < MAX_ERROR


def test_selected_heads(tmp_path: Path) -> None:
    path = make_model_dir("qwen3", tmp_path)
    choice = LowRank(rank=4, threshold=0.0, density=0.5, active=0.5)
    model = Model(path, impose({"model.layers.1.self_attn": choice}, 32, 4))
    expected = functions(model.module, model.weights, None)
    modules = [model.of(rank, 2) for rank in range(2)]
    (select,) = (op for op in modules[1].walk() if isinstance(op, spz.Select))
    assert select.result.type.get_shape() == (1, 2)
    assert error(model.side_by_side(modules, functions), expected) < MAX_ERROR
    scheduled = [model.scheduled(rank, 2) for rank in range(2)]
    assert error(model.side_by_side(scheduled, programs_in(True)), expected) < MAX_ERROR


def test_each_rank_reads_its_own_candidates(tmp_path: Path) -> None:
    """Of a sketched head: what is probable among all, and the best of each rank besides."""
    path = make_model_dir("gemma2", tmp_path, vocab_size=80)  # caps its logits
    best = [60.0 * (row % 7 == 1) for row in range(80)]
    sketch = Sketch(count=1, probability=1e-12, density=12 / 80, offset=0.25)
    model = Model(path, impose({"lm_head": sketch}, 32, 80, best))
    expected = functions(model.module, model.weights, None)
    modules = [model.of(rank, 3) for rank in range(3)]
    shapes = [op.result.type.get_shape() for op in modules[2].walk() if isinstance(op, spz.Sketch)]
    assert shapes == [(1, 16)]
    assert error(model.side_by_side(modules, functions), expected) < MAX_ERROR
    many = Model(path, impose({"lm_head": Sketch(count=20, density=0.25, offset=0.25)}, 32, 80))
    counts = [
        op.count.value.data
        for rank in range(3)
        for op in many.of(rank, 3).walk()
        if isinstance(op, spz.Select) and op.count is not None
    ]
    assert counts == [20, 20, 16]
