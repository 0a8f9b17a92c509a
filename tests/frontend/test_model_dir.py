"""What a model directory is refused for, each in one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from families import make_model_dir
from safetensors.torch import load_file, save_file

from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.model_dir import ModelDir


@pytest.fixture
def llama(tmp_path: Path, model_dir_of: Callable[[str], Path]) -> Path:
    """A model directory of the test's own."""
    return Path(shutil.copytree(model_dir_of("llama"), tmp_path / "llama"))


def edit_config(path: Path, **fields: Any) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def refusal(path: Path | str) -> str:
    with pytest.raises(SparsecompError) as error:
        ModelDir.open(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_headers_without_reading_weights(llama: Path) -> None:
    model = ModelDir.open(llama)
    assert model.name == "llama"
    header = model.tensors["model.layers.1.mlp.down_proj.weight"]
    assert (header.file.name, header.dtype, header.shape) == ("model.safetensors", "F32", (32, 48))
    assert len(model.tensors) == 21


def test_tokenizer_files_are_those_present(llama: Path) -> None:
    (llama / "tokenizer.json").write_text("{}")
    assert ModelDir.open(llama).tokenizer_files == (llama / "tokenizer.json",)


def test_sharded_checkpoint(llama: Path) -> None:
    tensors = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    for file, members in shards.items():
        save_file({n: tensors[n] for n in members}, llama / file)
    index = {"weight_map": {n: file for file, members in shards.items() for n in members}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    opened = ModelDir.open(llama)
    assert {n: h.file.name for n, h in opened.tensors.items()} == index["weight_map"]

    (llama / "b.safetensors").unlink()
    assert "shard b.safetensors is missing" in refusal(llama)


def test_missing_directory(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_file_instead_of_directory(llama: Path) -> None:
    assert "config.json is a file; give the directory" in refusal(llama / "config.json")


def test_no_config(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff".encode("utf-8", "surrogateescape")])
def test_config_not_json(llama: Path, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    (llama / "config.json").write_bytes(data)
    assert "JSON" in refusal(llama)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model_type": None}, "has no model_type"),
        ({"model_type": "llamma"}, "no causal language model for model_type 'llamma'"),
        ({"model_type": "t5"}, "no causal language model for model_type 't5'"),
        ({"architectures": ["LlamaModel"]}, "architecture LlamaModel is not a causal"),
        (
            {"model_type": "bart", "architectures": None, "is_encoder_decoder": True},
            "encoder-decoder",
        ),
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            "architecture BertForMaskedLM is not a causal",
        ),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised (gptq)"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_config_that_cannot_be_compiled(llama: Path, fields: dict[str, Any], reason: str) -> None:
    edit_config(llama, **fields)
    message = refusal(llama)
    assert reason in message
    assert str(llama / "config.json") in message


def test_pickled_weights_are_never_read(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    assert "has neither model.safetensors nor" in refusal(llama)
    (llama / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert "weights are pickled" in refusal(llama)


def test_truncated_weights(llama: Path) -> None:
    file = llama / "model.safetensors"
    data = file.read_bytes()
    for size in (0, 4, 100, len(data) - 1):
        file.write_bytes(data[:size])
        assert "is not a whole safetensors file" in refusal(llama)


def test_index_without_weight_map(llama: Path) -> None:
    (llama / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}')
    assert "has no weight_map" in refusal(llama)


def test_hub_id_is_downloaded(tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(hub_id: str, **_: Any) -> str:
        asked.append(hub_id)
        return str(llama)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = ModelDir.open("org/tiny-llama")
    assert asked == ["org/tiny-llama"]
    assert (model.name, model.path) == ("tiny-llama", llama)


def test_hub_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(hub_id: str, **_: Any) -> str:
        raise OSError("no route to host\nsecond line")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    message = refusal("org/tiny-llama")
    assert message == (
        "model org/tiny-llama: no such directory, and it cannot be downloaded: no route to host"
    )


def test_families_differ_by_seed(tmp_path: Path) -> None:
    first, same, other = (
        load_file(make_model_dir("opt", tmp_path / n, seed=seed) / "model.safetensors")
        for n, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    name = next(iter(first))
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])
