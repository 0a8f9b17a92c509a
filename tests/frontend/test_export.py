"""The exported graph computes what transformers computes, and says what the model's files say.

Every family's is compared in passes/test_equivalence.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import make_model_dir
from transformers import AutoConfig, AutoModelForCausalLM

from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.export import ExportedModel, export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.reference.interpreter import Interpreter

MAX_ERROR = 1e-5
"""Relative to the largest logit."""


def export(path: Path) -> ExportedModel:
    return export_model(ModelDir.open(path))


def logits(path: Path, ids: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(
        path, attn_implementation="eager", dtype=torch.float32
    )
    with torch.no_grad():
        return model.eval()(ids).logits


def check_against_transformers(path: Path, exported: ExportedModel) -> None:
    interpreter = Interpreter(exported.module, exported.weights.get, positions=64)
    # 13 is longer than the families' sliding windows, and no length that was traced.
    for length in (2, 13):
        ids = torch.randint(3, 64, (1, length), generator=torch.Generator().manual_seed(length))
        expected = logits(path, ids)
        (actual,) = interpreter.run("forward", ids)
        assert actual.shape == (1, length, 64)
        assert (actual - expected).abs().max() <= MAX_ERROR * expected.abs().max()


def test_falcons_of_both_architectures(tmp_path: Path) -> None:
    for name, fields in (
        ("alibi", {"alibi": True}),
        ("new", {"new_decoder_architecture": True, "num_kv_heads": 2}),
        ("sequential", {"parallel_attn": False, "multi_query": False}),
    ):
        path = make_model_dir("falcon", tmp_path / name, **fields)
        check_against_transformers(path, export(path))


def test_half_precision_checkpoint_computes_in_float32(tmp_path: Path) -> None:
    path = make_model_dir("llama", tmp_path / "m", dtype=torch.bfloat16)
    exported = export(path)
    assert "bf16" not in str(exported.module)
    check_against_transformers(path, exported)


def test_text_is_deterministic(model_dir_of: Callable[[str], Path]) -> None:
    path = model_dir_of("gemma2")
    first, second = str(export(path).module), str(export(path).module)
    assert first == second
    assert str(path.parent) not in first


def test_facts(tmp_path: Path) -> None:
    path = make_model_dir("llama", tmp_path / "tiny", eos_token_id=[2, 5])
    facts = export(path).facts
    assert (facts.name, facts.vocab_size, facts.hidden_size, facts.layers) == ("tiny", 64, 32, 2)
    assert facts.max_positions == 64
    assert facts.bos_ids == (1,)
    assert facts.eos_ids == (2, 5)


def test_generation_config_says_when_to_stop(tmp_path: Path) -> None:
    path = make_model_dir("llama", tmp_path / "m")
    (path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    facts = export(path).facts
    assert facts.eos_ids == (7, 8)
    assert facts.bos_ids == (1,)


def test_family_without_a_position_limit(model_dir_of: Callable[[str], Path]) -> None:
    assert export(model_dir_of("bloom")).facts.max_positions is None


def test_module_paths_are_the_models(model_dir_of: Callable[[str], Path]) -> None:
    exported = export(model_dir_of("llama"))
    (forward,) = (op for op in exported.module.ops if op.name == "func.func")
    paths = {op.attributes["module"].data for op in forward.walk() if "module" in op.attributes}
    assert "model.layers.1.mlp.down_proj" in paths
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_dir_of("llama")))
    modules = {name for name, _ in model.named_modules()}
    assert paths - {""} <= modules


def test_recurrent_model_is_refused_in_one_line(tmp_path: Path) -> None:
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=1, vocab_size=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(SparsecompError, match="cannot be exported") as error:
        export(tmp_path)
    assert "\n" not in str(error.value)


def test_chosen_experts_are_gathered_for_each_token(model_dir_of: Callable[[str], Path]) -> None:
    text = str(export(model_dir_of("mixtral")).module)
    assert "aten.index.Tensor" in text and "aten.bmm" in text
