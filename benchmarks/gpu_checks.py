"""Whole decode steps of small random models on the GPU, beside references.

Each case is compiled to an artifact with a program for the GPU and one for the CPU, and loaded as a
user would. A random text is decoded by both and by the reference of the scheduled program, in torch
in float32. The figure is the largest difference of a logit, over the largest logit.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sparsecomp.calibrate.approximation import Approximation
from sparsecomp.calibrate.low_rank import Predictor
from sparsecomp.calibrate.sketch import HeadSketch
from sparsecomp.codegen.build import find_compiler
from sparsecomp.compile import compile_model
from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.options import CompileOptions, CudaTarget, Dtype, Target, cxx_from_environment
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.pipeline import PIPELINE, run_pipeline
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.exec import Session
from sparsecomp.runtime import load
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import (
    Cascade,
    Choice,
    Cutoff,
    Exact,
    LowRank,
    Narrow,
    Nested,
    Option,
    Plan,
    Sketch,
)

TOLERANCES = {Dtype.F32: 2e-4, Dtype.BF16: 2e-2, Dtype.INT8: 2e-2, Dtype.INT4: 2e-2}
"""f32 differs by the order of sums; in bf16 a key or a value may be rounded the other way; in 8 and
4 bits the CPU's program, and the reference of it, round what they multiply with too."""
CHOSEN_BY_SCORES = 5e-3
"""In f32 scores alone decide, and once in many runs one neuron is chosen otherwise."""
BEST = 20.0
"""Added to the scores of chosen units where more is rounded: then no rounding decides."""


@dataclass(frozen=True)
class Case:
    """A model of a family, with fields of its config, and what its blocks become.

    Where `sizes` is empty the model is of a few million weights.
    """

    name: str
    family: str
    dtype: Dtype
    choices: Mapping[str, Choice] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    prompt: int = 101  # two tiles
    decoded: int = 6

    @property
    def tolerance(self) -> float:
        if self.choices and self.dtype is Dtype.F32:
            return CHOSEN_BY_SCORES
        return TOLERANCES[self.dtype]


@dataclass(frozen=True)
class Checked:
    """Errors of the GPU's logits against the reference, and against the CPU's program (None: there
    is no C++ compiler)."""

    case: str
    reference: float
    cpu: float | None
    tolerance: float

    @property
    def passed(self) -> bool:
        return max(self.reference, self.cpu or 0.0) <= self.tolerance


_OPT = {
    "hidden_size": 256, "word_embed_proj_dim": 256, "ffn_dim": 1024, "num_hidden_layers": 3,
    "num_attention_heads": 8, "max_position_embeddings": 256, "vocab_size": 640,
}  # fmt: skip
_LLAMA = {
    "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 256,
    "vocab_size": 640,
}  # fmt: skip
SIZES: dict[str, Mapping[str, Any]] = {"opt": _OPT, "llama": _LLAMA}


def cases() -> list[Case]:
    """Dense and sparse, in each type of weights."""
    found = [
        Case(f"{family}, dense", family, dtype) for family in ("opt", "llama") for dtype in Dtype
    ]
    found += [
        Case(f"opt, predicted, lookahead {lookahead}", "opt", dtype, _predicted(3, lookahead))
        for lookahead in (0, 1)
        for dtype in (Dtype.F32, Dtype.BF16, Dtype.INT8)
    ]
    modules = [f"model.layers.{layer}" for layer in range(3)]
    kinds = (Exact.GATE, Exact.NEURON, Exact.GATE)
    gates: dict[str, Choice] = {
        f"{module}.mlp": Cutoff(of=of, threshold=0.05, density=0.5)
        for module, of in zip(modules, kinds, strict=True)
    }
    best = LowRank(rank=32, count=4, group=8, density=0.5, active=0.5)
    heads: dict[str, Choice] = {f"{module}.self_attn": best for module in modules}
    found.append(Case("llama, gates cut off, heads predicted", "llama", Dtype.F32, gates | heads))
    sort = Nested(threshold=0.5, floor=0.1, density=0.3, coarse=0.4, rank=8)
    nested: dict[str, Choice] = {f"{module}.mlp": sort for module in modules}
    sketch = {"lm_head": Sketch(count=128, density=0.2, offset=0.25)}
    found.append(Case("llama, nested, head sketched", "llama", Dtype.INT8, {**nested, **sketch}))
    steps = Cascade(
        count=128, density=0.2, offset=0.25, first_count=256, first_density=0.3, first_offset=-0.5
    )
    found.append(Case("llama, head in steps", "llama", Dtype.INT8, {"lm_head": steps}))
    return found


def _predicted(layers: int, lookahead: int) -> dict[str, Choice]:
    """OPT's neurons and heads, by predictors that read an earlier block's input."""
    neurons: Choice = LowRank(rank=32, density=0.2, active=0.2, lookahead=lookahead)
    heads: Choice = LowRank(rank=32, count=4, group=8, density=0.5, active=0.5, lookahead=lookahead)
    modules = [f"model.decoder.layers.{layer}" for layer in range(layers)]
    return dict.fromkeys(modules, neurons) | dict.fromkeys(
        (f"{m}.self_attn" for m in modules), heads
    )


def check(case: Case, target: CudaTarget, seed: int, folder: Path) -> Checked:
    """Compile, run and compare one case on the GPU that the runtime finds."""
    path = folder / case.name.replace(" ", "-").replace(",", "") / case.dtype
    config = write_model(case, path, seed)
    sparse = _imposed(case, config, seed) if case.choices else None
    artifact = path / "model.spz"
    native = (Target.NATIVE,) if has_compiler() else ()
    options = CompileOptions(
        model_dir=path,
        output=artifact,
        dtype=case.dtype,
        workers=2,
        targets=(*native, target),
    )
    compile_model(options, sparse=sparse)
    numbers = random.Random(seed)
    ids = [numbers.randrange(config.vocab_size) for _ in range(case.prompt + case.decoded)]
    gpu = _decoded(artifact, "cuda", ids, case.prompt)
    cpu = _decoded(artifact, "cpu", ids, case.prompt) if native else None
    expected = _reference(case, path, sparse, ids)
    return Checked(
        f"{case.name}, {case.dtype}",
        error(gpu, expected),
        None if cpu is None else error(gpu, cpu),
        case.tolerance,
    )


def has_compiler() -> bool:
    try:
        find_compiler(Target.NATIVE, cxx_from_environment())
    except SparsecompError:
        return False
    return True


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Infinite for what is not a number."""
    found = float(np.abs(actual - expected).max() / np.abs(expected).max())
    return found if math.isfinite(found) else math.inf


def write_model(case: Case, path: Path, seed: int) -> Any:
    """A random model directory; its config."""
    config = AutoConfig.for_model(
        case.family,
        **{**(case.sizes or SIZES[case.family]), "pad_token_id": 0, "eos_token_id": 1},
    )
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(1.5 * noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.copy_(float("norm.weight" in name) + 0.1 * noise)
    model.save_pretrained(path)
    return config


def _decoded(artifact: Path, device: str, ids: list[int], prompt: int) -> np.ndarray:
    """Logits after a prompt and after each token behind it."""
    with (
        load(artifact, device=device, allow_native=True) as model,
        model.session(len(ids)) as session,
    ):
        rows = [np.array(session.prefill(ids[:prompt]))]
        rows += [np.array(session.decode(token)) for token in ids[prompt:]]
    return np.stack(rows)


def _reference(case: Case, path: Path, sparse: Sparsified | None, ids: list[int]) -> np.ndarray:
    """The same, by the reference of the program that is scheduled for one CPU."""
    exported = export_model(ModelDir.open(path))
    made = {} if sparse is None else sparse.weights(case.choices)
    positions = exported.facts.max_positions
    assert positions is not None

    @cache
    def weights(name: str) -> torch.Tensor:
        return made[name] if name in made else exported.weights.get(name)

    context = PassContext(
        evaluate=evaluate,
        weights=weights,
        positions=positions,
        workers=1,
        dtype=case.dtype,
        plan=None if sparse is None else sparse.plan,
    )
    run_pipeline(exported.module, context, steps=PIPELINE)
    session = Session(exported.module, weights, positions=positions)
    rows = [session.prefill(torch.tensor(ids[: case.prompt]), 0)]
    for position in range(case.prompt, len(ids)):
        rows.append(session.decode(ids[position], position, False))
    return torch.stack([row.reshape(-1) for row in rows]).numpy()


# ---- predictors ----


def _imposed(case: Case, config: Any, seed: int) -> Sparsified:
    plan = Plan({name: (Option(c, 0.0),) for name, c in case.choices.items()}, forced=True)
    return Sparsified(plan, _Random(config, seed, 0.0 if case.dtype is Dtype.F32 else BEST))


@dataclass(frozen=True)
class _Random:
    """Random weights for what choices need. `best` is added to the scores of half of the heads, and
    of a fifth of the other units, and taken from those of the rest."""

    config: Any
    seed: int
    best: float

    def predictor(self, module: str, rank: int) -> Predictor:
        heads = module.endswith("self_attn")
        units = self.config.num_attention_heads if heads else self._neurons
        biases = self._biases(module, units, units // (2 if heads else 5))
        return Predictor(*self._pair(module, rank, units), biases)

    def approximation(self, module: str, rank: int) -> Approximation:
        raise NotImplementedError("no block is approximated")

    def narrow(self, module: str, choice: Narrow) -> Mapping[str, torch.Tensor]:
        raise NotImplementedError("no block is narrow")

    def correction(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        basis, factors = self._pair(module, rank, self._neurons * 2)
        return 0.1 * basis, 0.1 * factors

    def sketch(self, module: str) -> HeadSketch:
        hidden, vocabulary = self.config.hidden_size, self.config.vocab_size
        axes, rows = self._pair(module, hidden + 1, vocabulary)
        biases = self._biases(module, vocabulary, vocabulary // 5)
        return HeadSketch(axes, axes.sum(1), rows[:, :-1].contiguous(), biases)

    @property
    def _neurons(self) -> int:
        opt = self.config.model_type == "opt"
        return int(self.config.ffn_dim if opt else self.config.intermediate_size)

    def _generator(self, module: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + zlib.crc32(module.encode()))

    def _pair(self, module: str, rank: int, units: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator, hidden = self._generator(module), self.config.hidden_size
        down = torch.randn(rank, hidden, generator=generator) * hidden**-0.5
        return down, torch.randn(units, rank, generator=generator) * rank**-0.5

    def _biases(self, module: str, units: int, chosen: int) -> torch.Tensor:
        order = torch.randperm(units, generator=self._generator(module))
        biases = torch.full((units,), -self.best)
        biases[order[:chosen]] = self.best
        return biases
