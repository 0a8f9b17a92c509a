"""GPU programs of a model's shape, made from its config, with an imposed sparsity: for speed only.

No checkpoint is written: the model directory holds a file of headers and holes, and the weights are
random. All layers have the same values, each in memory of its own: what a step reads is what it
would of a real model, and a file holds each distinct storage once.
"""

from __future__ import annotations

import functools
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import NormalDist

import torch
from transformers import LlamaConfig, OPTConfig, PretrainedConfig
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.calibrate.approximation import Approximation
from sparsecomp.calibrate.low_rank import Predictor
from sparsecomp.calibrate.sketch import HeadSketch
from sparsecomp.codegen.account import blocks, bytes_per_token
from sparsecomp.codegen.storage import storage_bytes
from sparsecomp.codegen.triton import select
from sparsecomp.codegen.triton.program import build_programs, compile_kernel
from sparsecomp.dialects import exec
from sparsecomp.frontend.export import ExportedModel, build_model, export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.options import Device, Dtype
from sparsecomp.passes.base import PassContext, Weights
from sparsecomp.passes.pipeline import CUDA_PIPELINE, run_pipeline
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.exec import Stored
from sparsecomp.runtime.artifact import Block
from sparsecomp.runtime.launch import Code
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import Choice, Cutoff, Exact, LowRank, Narrow, Option, Plan
from synthetic import random_values

LAYER = re.compile(r"\blayers\.\d+")


class Family(StrEnum):
    """A published model whose sizes are taken."""

    OPT = "OPT-6.7B"
    LLAMA = "Llama-2-7B"


@dataclass(frozen=True)
class Build:
    """A program to measure: the share of neurons and of heads that a step reads; None: all.

    OPT's neurons are predicted, from the input of the block so many (`lookahead`) before; Llama's
    are cut off by their gate. Heads are predicted, in either.
    """

    family: Family
    layers: int
    neurons: float | None = None
    heads: float | None = None
    lookahead: int = 0

    @property
    def name(self) -> str:
        if self.neurons is None:
            return "sparsecomp dense"
        heads = "" if self.heads is None else f", {self.heads:.0%} of heads"
        ahead = f", lookahead {self.lookahead}" if self.family is Family.OPT else ""
        return f"sparsecomp {self.neurons:.0%} of neurons{heads}{ahead}"


@dataclass(frozen=True)
class Placement:
    """`size` bytes from `start` of a file of weights, to lie at `offset` of the region."""

    offset: int
    start: int
    size: int


@dataclass(frozen=True)
class Made:
    """A launch program with its members, and its weights.

    `weight_bytes` is what a decode step reads of them, by the imposed shares; `blocks` are the
    sparse ones, in the order of the program's selections.
    """

    build: Build
    members: Mapping[str, bytes]
    weights: Path
    placements: tuple[Placement, ...]
    weight_bytes: int
    blocks: tuple[Block, ...]


def config_of(family: Family, layers: int) -> PretrainedConfig:
    """Published sizes, but for the layers asked for, and for Llama's positions: 4096 there."""
    if family is Family.OPT:
        return OPTConfig(
            architectures=["OPTForCausalLM"],
            vocab_size=50272,
            hidden_size=4096,
            word_embed_proj_dim=4096,
            ffn_dim=16384,
            num_hidden_layers=layers,
            num_attention_heads=32,
            max_position_embeddings=2048,
        )
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=layers,
        num_attention_heads=32,
        max_position_embeddings=8192,
    )


def make(build: Build, code: Code, folder: Path) -> Made:
    """The program of a build for one kind of GPU; its weights go into a file in `folder`."""
    torch.set_num_threads(2)  # others are made beside it
    path = folder / build.name.replace(" ", "-")
    write_hollow(path, config_of(build.family, build.layers))
    exported = export_model(ModelDir.open(path))
    positions = exported.facts.max_positions
    assert positions is not None
    sparse = impose(build)
    weights = random_weights(exported, sparse)
    module = exported.module
    context = PassContext(
        evaluate=evaluate,
        weights=weights,
        positions=positions,
        workers=1,
        device=Device.CUDA,
        parts=select.parts,
        dtype=Dtype.BF16,
        plan=sparse.plan if sparse.plan.options else None,
    )
    run_pipeline(module, context, steps=CUDA_PIPELINE)
    built = build_programs([module], positions, (code,), compile_kernel)
    file = path / "weights.bin"
    placements = tuple(_write_weights(module, weights, positions, file))
    weight_bytes = sum(bytes_per_token(module).values())
    return Made(build, built.members, file, placements, weight_bytes, blocks(module))


def write_hollow(path: Path, config: PretrainedConfig) -> None:
    """A model directory whose checkpoint has headers, and holes in place of its values."""
    path.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(path)
    header: dict[str, object] = {}
    end = 0
    for name, parameter in build_model(config).named_parameters():
        start, end = end, end + 2 * parameter.numel()
        header[name] = {
            "dtype": "BF16",
            "shape": list(parameter.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    with (path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


# ---- what is imposed ----


def impose(build: Build) -> Sparsified:
    """Its choices; scores of predictors are about N(0, 1), so a threshold gives a share."""
    config = config_of(build.family, build.layers)
    choices: dict[str, Choice] = {}
    for layer in range(build.layers):
        if build.family is Family.OPT:
            mlp = attention = f"model.decoder.layers.{layer}"
        else:
            attention = f"model.layers.{layer}"
            mlp = f"{attention}.mlp"
        if build.neurons is not None:
            choices[mlp] = _neurons(build, config)
        if build.heads is not None:
            choices[f"{attention}.self_attn"] = _heads(build, config)
    plan = Plan({name: (Option(choice, 0.0),) for name, choice in choices.items()}, forced=True)
    return Sparsified(plan, _Random(config))


def _rank(config: PretrainedConfig) -> int:
    """About a twelfth of the hidden size (Deja Vu, arXiv 2310.17157)."""
    return max(int(config.hidden_size) // 12 // 32 * 32, 32)


def _neurons(build: Build, config: PretrainedConfig) -> Choice:
    assert build.neurons is not None
    if build.family is Family.OPT:
        return LowRank(
            rank=_rank(config),
            density=build.neurons,
            active=build.neurons,
            threshold=NormalDist().inv_cdf(1 - build.neurons),
            lookahead=build.lookahead,
        )
    # |silu(x)| of x as N(0, 1), which a normed input times a random row is.
    values = torch.tensor([NormalDist().inv_cdf((i + 0.5) / 4096) for i in range(4096)])
    threshold = torch.nn.functional.silu(values).abs().quantile(1 - build.neurons)
    return Cutoff(of=Exact.GATE, threshold=float(threshold), density=build.neurons)


def _heads(build: Build, config: PretrainedConfig) -> Choice:
    """The best of all heads, a fixed number of them."""
    assert build.heads is not None
    heads = int(config.num_attention_heads)
    return LowRank(
        rank=_rank(config),
        count=round(build.heads * heads),
        group=heads,
        density=build.heads,
        active=build.heads,
        lookahead=build.lookahead,
    )


@dataclass(frozen=True)
class _Random:
    """Random predictors, the same for each layer."""

    config: PretrainedConfig

    def predictor(self, module: str, rank: int) -> Predictor:
        attention = module.endswith("self_attn")
        units = self.config.num_attention_heads if attention else self.config.ffn_dim
        return _predictor(self.config.hidden_size, units, rank)

    def approximation(self, module: str, rank: int) -> Approximation:
        raise NotImplementedError("no block is approximated")

    def narrow(self, module: str, choice: Narrow) -> Mapping[str, torch.Tensor]:
        raise NotImplementedError("no block is narrow")

    def correction(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError("no block is nested")

    def sketch(self, module: str) -> HeadSketch:
        raise NotImplementedError("no head is sketched")


@functools.cache
def _predictor(hidden: int, units: int, rank: int) -> Predictor:
    generator = torch.Generator().manual_seed(units)
    down = torch.randn(rank, hidden, generator=generator) * hidden**-0.5
    up = torch.randn(units, rank, generator=generator) * rank**-0.5
    return Predictor(down, up, torch.zeros(units))


# ---- weights ----


def random_weights(exported: ExportedModel, sparse: Sparsified) -> Weights:
    """Values by name: what the model's code computes, predictors, and random ones for the rest."""
    given = sparse.weights({name: option.choice for name, (option,) in sparse.plan.options.items()})
    checkpoint = exported.weights

    def get(name: str) -> torch.Tensor:
        if name in given:
            return given[name]
        if name not in checkpoint.sources and name in checkpoint.values:
            return checkpoint.get(name)
        return _values(LAYER.sub("layers.#", name), torch.Size(checkpoint.shapes[name]))

    return get


class RandomWeights(Mapping[str, torch.Tensor]):
    """Random values of a model's parameters by name, made when they are asked for."""

    def __init__(self, config: PretrainedConfig) -> None:
        self._shapes = {name: p.shape for name, p in build_model(config).named_parameters()}

    def __getitem__(self, name: str) -> torch.Tensor:
        return _values(LAYER.sub("layers.#", name), self._shapes[name])

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


@functools.lru_cache(maxsize=32)
def _values(name: str, shape: torch.Size) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return random_values(name, shape, generator).float()


def _write_weights(
    module: ModuleOp, weights: Weights, positions: int, file: Path
) -> Iterator[Placement]:
    """Where each storage lies; those that differ by their layer alone are one in the file."""
    stored = Stored(module, weights, positions)
    starts: dict[object, int] = {}
    end = 0
    with file.open("wb") as out:
        for storage in module.ops:
            if not isinstance(storage, exec.Storage):
                continue
            names = tuple(LAYER.sub("layers.#", symbol.string_value()) for symbol in storage.of)
            key = (names, storage.dims, storage.layout, storage.element)
            if key not in starts:
                data = storage_bytes(storage, functools.partial(stored._weight, storage))
                out.write(data)
                starts[key] = end
                end += len(data)
            assert storage.offset is not None
            yield Placement(storage.offset.value.data, starts[key], storage.bytes)
