"""Weights by the model's names, whatever the checkpoint calls them and whatever type they have."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import make_model_dir
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.export import ExportedModel, build_model, export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.frontend.weights import CheckpointWeights, match, tensor_names

NORM = "model.norm.weight"


def weights_of(path: Path) -> CheckpointWeights:
    model_dir = ModelDir.open(path)
    model = build_model(model_dir.config)
    return match(model_dir, model, tensor_names(model))


def rewrite(
    path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    file = path / "model.safetensors"
    save_file(change(load_file(file)), file)


@pytest.fixture
def own(tmp_path: Path, model_dir_of: Callable[[str], Path]) -> Callable[[str], Path]:
    """A copy of a family's directory that the test may change."""
    return lambda family: Path(shutil.copytree(model_dir_of(family), tmp_path / family))


def test_building_takes_no_memory_for_parameters(model_dir_of: Callable[[str], Path]) -> None:
    model = build_model(ModelDir.open(model_dir_of("llama")).config)
    assert all(p.is_meta for p in model.parameters())
    assert not any(b.is_meta for b in model.buffers())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = make_model_dir("llama", tmp_path / "m", dtype=dtype)
    stored = load_file(path / "model.safetensors")[NORM]
    assert stored.dtype == dtype
    value = weights_of(path).get(NORM)
    assert value.dtype == torch.float32
    assert torch.equal(value, stored.float())


def test_tied_weights_are_one(tmp_path: Path) -> None:
    path = make_model_dir("llama", tmp_path / "m", tie_word_embeddings=True)
    exported = export_model(ModelDir.open(path))
    text = str(exported.module)
    assert "aten.weight @model.embed_tokens.weight" in text
    assert "lm_head.weight" not in text
    value = exported.weights.get("model.embed_tokens.weight")
    # Either of the tied names may be the one in the file.
    rewrite(path, lambda t: {n.replace("model.embed_tokens", "lm_head"): v for n, v in t.items()})
    assert "lm_head.weight" in load_file(path / "model.safetensors")
    assert torch.equal(weights_of(path).get("model.embed_tokens.weight"), value)


def test_names_without_the_base_models_prefix(own: Callable[[str], Path]) -> None:
    path = own("gpt2")
    name = "transformer.h.1.mlp.c_fc.weight"
    value = weights_of(path).get(name)
    rewrite(path, lambda t: {n.removeprefix("transformer."): v for n, v in t.items()})
    assert torch.equal(weights_of(path).get(name), value)


def test_tensors_stored_in_parts(model_dir_of: Callable[[str], Path]) -> None:
    path = model_dir_of("mixtral")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    weights = weights_of(path)
    assert len(weights.merges[name].parts) == 8  # four experts, gate and up
    expected = AutoModelForCausalLM.from_pretrained(path).get_parameter(name)
    assert torch.equal(weights.get(name), expected)


def test_a_part_is_missing(own: Callable[[str], Path]) -> None:
    path = own("mixtral")
    part = next(n for n in weights_of(path).model_dir.tensors if "experts.1" in n)
    rewrite(path, lambda t: {n: v for n, v in t.items() if n != part})
    weights = weights_of(path)
    name = next(n for n, m in weights.merges.items() if len(m.parts) in (3, 7))
    with pytest.raises(SparsecompError, match=f"tensor {name} is stored in"):
        weights.get(name)


def test_buffers_that_no_checkpoint_has(model_dir_of: Callable[[str], Path]) -> None:
    value = weights_of(model_dir_of("llama")).get("model.rotary_emb.inv_freq")
    torch.testing.assert_close(value, 10000.0 ** (-torch.arange(0, 8, 2) / 8))


def refused(path: Path) -> str:
    with pytest.raises(SparsecompError) as error:
        export_model(ModelDir.open(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_tensor(own: Callable[[str], Path]) -> None:
    path = own("llama")
    rewrite(path, lambda t: {n: v for n, v in t.items() if n != NORM})
    assert f"tensor {NORM} is missing from the checkpoint" in refused(path)


def test_tensor_of_another_shape(own: Callable[[str], Path]) -> None:
    path = own("llama")
    rewrite(path, lambda t: t | {NORM: torch.ones(16)})
    assert f"tensor {NORM} has shape 16, config.json asks for 32" in refused(path)


def test_integer_tensor(own: Callable[[str], Path]) -> None:
    path = own("llama")
    rewrite(path, lambda t: t | {NORM: torch.ones(32, dtype=torch.int8)})
    assert f"tensor {NORM} is stored as I8" in refused(path)


@pytest.mark.parametrize(("value", "word"), [(torch.nan, "NaN"), (-torch.inf, "an infinity")])
def test_damaged_tensor_is_named_when_read(
    own: Callable[[str], Path], value: float, word: str
) -> None:
    path = own("llama")
    rewrite(path, lambda t: t | {NORM: t[NORM].index_fill(0, torch.tensor([3]), value)})
    weights = weights_of(path)
    with pytest.raises(SparsecompError, match=f"tensor {NORM} holds {word}"):
        weights.get(NORM)


def test_large_finite_weights_are_not_refused(own: Callable[[str], Path]) -> None:
    path = own("llama")
    rewrite(path, lambda t: t | {NORM: torch.full((32,), 3e38)})
    assert weights_of(path).get(NORM).sum().isinf()


def test_exported_weights_serve_every_declaration(model_dir_of: Callable[[str], Path]) -> None:
    exported: ExportedModel = export_model(ModelDir.open(model_dir_of("gemma3_text")))
    for op in exported.module.ops:
        if op.name == "aten.weight":
            value = exported.weights.get(op.properties["sym_name"].data)
            assert tuple(value.shape) == op.properties["type"].get_shape()
