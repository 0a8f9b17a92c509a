"""Results of calibration in a directory, so that a rerun takes up where the last one stopped.

Each result is one file, written under another name and then renamed: it is whole or not there. A
file that is damaged, or that another key wrote, counts as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sparsecomp.errors import SparsecompError

from .low_rank import Point, Predictor, Trained

_TENSORS = ("down", "up", "bias")


class Store:
    """Results under one key in `directory`, which is made when it is missing.

    The key stands for all that decides the results: the model's files, texts, seed, options.
    """

    def __init__(self, directory: Path, key: str):
        self.directory = directory
        self.key = key
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SparsecompError(f"{directory}: cannot be written: {error.strerror}") from error

    @property
    def recordings(self) -> Path:
        """Where `collect` may put its files."""
        return self.directory / "activations"

    def get(self, name: str) -> Trained | None:
        """The predictor put under `name`, or None."""
        try:
            with safe_open(self._path(name, "safetensors"), framework="pt") as file:
                tensors = {tensor: file.get_tensor(tensor) for tensor in _TENSORS}
                facts = json.loads(file.metadata()["facts"])
        except (OSError, SafetensorError, ValueError, TypeError, KeyError):
            return None
        if (facts.pop("key"), facts.pop("name")) != (self.key, name):
            return None
        if facts.pop("sha256") != _sha256(tensors):
            return None
        points = tuple(Point(**point) for point in facts.pop("points"))
        return Trained(Predictor(**tensors), points=points, **facts)

    def put(self, name: str, trained: Trained) -> None:
        """Raises SparsecompError when the directory cannot be written."""
        tensors = {t: getattr(trained.predictor, t).contiguous() for t in _TENSORS}
        facts = asdict(trained)
        del facts["predictor"]
        facts |= {"key": self.key, "name": name, "sha256": _sha256(tensors)}
        self._write(self._path(name, "safetensors"), save(tensors, {"facts": json.dumps(facts)}))

    def get_json(self, name: str) -> Any:
        """The JSON value put under `name`, or None."""
        try:
            found = json.loads(self._path(name, "json").read_text())
            if (found["key"], found["name"]) != (self.key, name):
                return None
            return found["value"]
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put_json(self, name: str, value: Any) -> None:
        """Raises SparsecompError when the directory cannot be written."""
        text = json.dumps({"key": self.key, "name": name, "value": value})
        self._write(self._path(name, "json"), text.encode())

    def _path(self, name: str, suffix: str) -> Path:
        return self.directory / f"{name}.{suffix}"

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise SparsecompError(f"{path}: cannot be written: {error.strerror}") from error


def _sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in _TENSORS:
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
