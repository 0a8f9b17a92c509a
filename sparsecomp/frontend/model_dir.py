"""A Hugging Face model directory: its config, its tensors' headers, its tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from sparsecomp.errors import SparsecompError
from sparsecomp.options import is_hub_id

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class TensorHeader:
    """Where a tensor is, and its shape in elements."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelDir:
    """An opened model directory; `tensors` is by the names in the checkpoint.

    `generation` is generation_config.json ({} without one); `tokenizer_files` are those present.
    """

    path: Path
    name: str
    config: PretrainedConfig
    generation: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]
    tokenizer_files: tuple[Path, ...]

    @staticmethod
    def open(location: str | Path) -> ModelDir:
        """Open a directory, or download what a Hub id (`org/name`) names.

        Raises SparsecompError when it does not hold a causal language model with safetensors.
        """
        path = Path(location)
        if is_hub_id(path):
            path = _download(str(location))
        if not path.exists():
            raise SparsecompError(
                f"model directory {path} does not exist; give a local directory with {CONFIG}, "
                "*.safetensors and tokenizer.json, or a Hub id such as org/name"
            )
        if not path.is_dir():
            raise SparsecompError(f"{path} is a file; give the directory that holds {CONFIG}")
        config = _config(path)
        return ModelDir(
            path=path,
            name=Path(location).resolve().name,
            config=config,
            generation=_optional_json(path / GENERATION_CONFIG),
            tensors=_tensors(path),
            tokenizer_files=tuple(path / f for f in TOKENIZER_FILES if (path / f).is_file()),
        )

    def identity(self) -> str:
        """A hash of the config and of the checkpoint's files as they lie there (path, size and
        time): other files have another one."""
        digest = hashlib.sha256((self.path / CONFIG).read_bytes())
        for file in sorted({header.file for header in self.tensors.values()}):
            facts = file.stat()
            digest.update(f"{file.resolve()} {facts.st_size} {facts.st_mtime_ns}".encode())
        return digest.hexdigest()


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors", "*.jinja"])
        )
    except Exception as error:  # the Hub client's errors share no base class
        raise SparsecompError(
            f"model {hub_id}: no such directory, and it cannot be downloaded: {_first_line(error)}"
        ) from error


# ---- config ----


def _config(path: Path) -> PretrainedConfig:
    file = path / CONFIG
    if not file.is_file():
        raise SparsecompError(f"{path} has no {CONFIG}; give a Hugging Face model directory")
    fields = _json(file)
    model_type = fields.get("model_type")
    if not isinstance(model_type, str):
        raise SparsecompError(f"{file}: has no model_type; it must name a transformers model")
    _check_causal(file, model_type, fields)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # a config class may raise anything about its fields
        # Where a check of fields fails, what it found is in the cause.
        reason = _first_line(error.__cause__ or error)
        raise SparsecompError(f"{file}: {reason}") from error
    if config.is_encoder_decoder:
        raise SparsecompError(
            f"{file}: {model_type} is an encoder-decoder model; only decoder-only models compile"
        )
    return config


def _check_causal(file: Path, model_type: str, fields: Mapping[str, Any]) -> None:
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise SparsecompError(
            f"{file}: transformers has no causal language model for model_type {model_type!r}; "
            "only decoder-only models that transformers itself implements compile"
        )
    architectures = fields.get("architectures") or []
    if architectures and not set(architectures) & _causal_classes():
        raise SparsecompError(
            f"{file}: architecture {architectures[0]} is not a causal language model; only "
            "decoder-only models compile"
        )
    if fields.get("quantization_config"):
        method = fields["quantization_config"].get("quant_method", "unknown method")
        raise SparsecompError(
            f"{file}: the checkpoint is quantised ({method}); give the model's unquantised weights"
        )


def _causal_classes() -> set[str]:
    classes: set[str] = set()
    for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        classes.update([names] if isinstance(names, str) else names)
    return classes


def _optional_json(file: Path) -> dict[str, Any]:
    return _json(file) if file.is_file() else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SparsecompError(f"{file}: cannot be read as JSON: {_first_line(error)}") from error
    if not isinstance(value, dict):
        raise SparsecompError(f"{file}: is not a JSON object")
    return value


# ---- tensors ----


def _tensors(path: Path) -> dict[str, TensorHeader]:
    tensors: dict[str, TensorHeader] = {}
    for file in _weight_files(path):
        tensors.update(_headers(file))
    return tensors


def _weight_files(path: Path) -> list[Path]:
    index = path / WEIGHTS_INDEX
    if index.is_file():
        shards = _json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
            raise SparsecompError(f"{index}: has no weight_map of tensor names to file names")
        files = [path / name for name in sorted(set(shards.values()))]
        for file in files:
            if not file.is_file():
                raise SparsecompError(f"{index}: shard {file.name} is missing from the directory")
        return files
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if any(file for pattern in _PICKLED for file in path.glob(pattern)):
        raise SparsecompError(
            f"{path}: weights are pickled, and unpickling runs code from the file; save the model "
            "with safe_serialization=True to get *.safetensors"
        )
    raise SparsecompError(f"{path}: has neither {WEIGHTS} nor {WEIGHTS_INDEX}")


def _headers(file: Path) -> dict[str, TensorHeader]:
    headers = {}
    try:
        # Opening checks the header and that the file is as long as its offsets say.
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                entry = tensors.get_slice(name)
                headers[name] = TensorHeader(file, entry.get_dtype(), tuple(entry.get_shape()))
    except (SafetensorError, OSError) as error:
        raise SparsecompError(
            f"{file}: is not a whole safetensors file: {_first_line(error)}"
        ) from error
    return headers


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
