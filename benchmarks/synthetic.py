"""A synthetic model of OPT's shape, and artifacts of it with an imposed sparsity: for speed only.

Its weights are random. Its predictors are random too, of the size that Deja Vu uses; their
thresholds let a given share of the units pass, as do those of neurons chosen by the high planes of
their own 8-bit weights (HiRE-Q). Every neuron that is chosen is active, so that what is imposed is
what is read.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import OPTConfig

from sparsecomp.calibrate.approximation import Approximation
from sparsecomp.calibrate.low_rank import Predictor
from sparsecomp.calibrate.sketch import HeadSketch
from sparsecomp.compile import compile_model
from sparsecomp.frontend.export import build_model
from sparsecomp.options import CompileOptions, Dtype, Overlap
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import Choice, LowRank, Narrow, Nested, Option, Plan

EVERYTHING = Overlap()
INDEX = "model.safetensors.index.json"
ACTIVE = 8.0
"""The bias of every neuron: far above 0 for what is added to it, which is about N(0, 1)."""
SAMPLES = 64
"""Random inputs from which a threshold is found."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, in elements; the defaults are OPT-1.3B's."""

    layers: int = 24
    hidden: int = 2048
    neurons: int = 8192
    heads: int = 32
    vocabulary: int = 50272
    positions: int = 2048

    @property
    def rank(self) -> int:
        """Of the predictors: about a twelfth of the hidden size (Deja Vu, arXiv 2310.17157)."""
        return max(self.hidden // 12 // 32 * 32, 32)

    @property
    def name(self) -> str:
        return "opt-" + "-".join(map(str, astuple(self)))


@dataclass(frozen=True)
class Imposed:
    """The share of neurons, and of heads, that a decode step reads; None: all, unpredicted.

    Predictors read the input of the block so many (`lookahead`) before. `nested`: neurons are
    chosen by the high planes of their weights, not by a predictor.
    """

    neurons: float | None = None
    heads: float | None = None
    lookahead: int = 0
    nested: bool = False

    @property
    def name(self) -> str:
        shares = {"neurons": self.neurons, "heads": self.heads}
        given = [f"{share:.0%} of {units}" for units, share in shares.items() if share is not None]
        if self.lookahead:
            given.append(f"lookahead {self.lookahead}")
        return ", ".join(given) + " nested" * self.nested or "dense"


def write_model(path: Path, shape: Shape) -> None:
    """A model directory without tokenizer. Each layer is a file, so that memory stays small."""
    if (path / INDEX).exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    config = OPTConfig(
        architectures=["OPTForCausalLM"],
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        word_embed_proj_dim=shape.hidden,
        ffn_dim=shape.neurons,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.positions,
        dtype="bfloat16",
    )
    config.save_pretrained(path)
    generator = torch.Generator().manual_seed(0)
    files: dict[str, str] = {}
    parameters = build_model(config).named_parameters()
    for part, group in itertools.groupby(parameters, lambda named: _part(named[0])):
        tensors = {name: random_values(name, meta.shape, generator) for name, meta in group}
        save_file(tensors, path / f"{part}.safetensors")
        files |= dict.fromkeys(tensors, f"{part}.safetensors")
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))


def _part(parameter: str) -> str:
    _, is_layer, rest = parameter.partition(".layers.")
    return f"layer-{rest.partition('.')[0]}" if is_layer else parameter


def random_values(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if len(shape) > 1:
        # A product's sums then vary as much as what it reads.
        return (torch.randn(shape, generator=generator) * shape[-1] ** -0.5).bfloat16()
    level = ACTIVE if "fc1" in name else float("norm.weight" in name)
    return torch.full(shape, level, dtype=torch.bfloat16)


def compile_imposed(
    model_dir: Path,
    output: Path,
    shape: Shape,
    imposed: Imposed,
    dtype: Dtype,
    workers: int,
    overlap: Overlap = EVERYTHING,
) -> None:
    """An artifact of a model that `write_model` wrote."""
    blocks = list(_blocks(shape, imposed))
    made = _Random(shape, {module: units for module, units, _ in blocks})
    choices: dict[str, Choice] = {}
    for module, units, density in blocks:
        if imposed.nested and units == shape.neurons:
            choices[module] = _nested(model_dir, module, density)
        else:
            choices[module] = LowRank(
                rank=shape.rank,
                density=density,
                active=density,
                threshold=_threshold(made.predictor(module, shape.rank), density),
                lookahead=imposed.lookahead,
            )
    plan = Plan({name: (Option(choice, 0.0),) for name, choice in choices.items()}, forced=True)
    sparse = Sparsified(plan, made)
    options = CompileOptions(
        model_dir=model_dir, output=output, dtype=dtype, workers=workers, overlap=overlap
    )
    compile_model(options, sparse=sparse if choices else None)


def _blocks(shape: Shape, imposed: Imposed) -> Iterator[tuple[str, int, float]]:
    """The sparse blocks: module, units and density."""
    for layer in range(shape.layers):
        module = f"model.decoder.layers.{layer}"
        if imposed.neurons is not None:
            yield module, shape.neurons, imposed.neurons
        if imposed.heads is not None:
            yield f"{module}.self_attn", shape.heads, imposed.heads


@dataclass(frozen=True)
class _Random:
    """Random weights for blocks of so many units; scores are about N(0, 1) for inputs that are."""

    shape: Shape
    units: Mapping[str, int]

    def predictor(self, module: str, rank: int) -> Predictor:
        down, up = self._pair(module, rank, self.units[module])
        return Predictor(down, up, torch.zeros(self.units[module]))

    def approximation(self, module: str, rank: int) -> Approximation:
        raise NotImplementedError("no block is approximated")

    def narrow(self, module: str, choice: Narrow) -> Mapping[str, torch.Tensor]:
        raise NotImplementedError("no block is narrow")

    def correction(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._pair(module, rank, self.units[module])

    def sketch(self, module: str) -> HeadSketch:
        axes, rows = self._pair(module, self.shape.hidden + 1, self.units[module])
        return HeadSketch(axes, axes.sum(1), rows[:, :-1], torch.zeros(len(rows)))

    def _pair(self, module: str, rank: int, units: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(zlib.crc32(module.encode()))
        down = torch.randn(rank, self.shape.hidden, generator=generator) * self.shape.hidden**-0.5
        return down, torch.randn(units, rank, generator=generator) * rank**-0.5


def _nested(model_dir: Path, module: str, density: float) -> Nested:
    """Fine neurons alone, the share `density` that scores best: a value is about N(ACTIVE, 1)."""
    name = f"{module}.fc2.weight"
    file = json.loads((model_dir / INDEX).read_text())["weight_map"][name]
    with safe_open(model_dir / file, "pt") as tensors:
        norms = tensors.get_tensor(name).float().norm(dim=0)
    generator = torch.Generator().manual_seed(0)
    scores = ((ACTIVE + torch.randn(SAMPLES, len(norms), generator=generator)) * norms).flatten()
    threshold = float(scores.kthvalue(max(round(scores.numel() * (1 - density)), 1)).values)
    return Nested(threshold=threshold, floor=threshold, density=density, coarse=0.0)


def _threshold(predictor: Predictor, density: float) -> float:
    """What a share `density` of the scores of random inputs is above."""
    if density == 1.0:
        return -1e30
    inputs = predictor.down.shape[1]
    x = torch.randn(SAMPLES, inputs, generator=torch.Generator().manual_seed(0))
    scores = predictor.scores(x).flatten()
    return float(scores.kthvalue(max(round(scores.numel() * (1 - density)), 1)).values)
