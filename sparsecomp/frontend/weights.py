"""Weights by name, one at a time: from the checkpoint, or computed where it has none."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from sparsecomp.errors import SparsecompError

from .model_dir import ModelDir, TensorHeader

_READABLE = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Merge:
    """How one tensor is made of several of the checkpoint: `parts` are (source pattern, name)."""

    converter: WeightConverter
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CheckpointWeights:
    """The model's tensors by the names of its modules' parameters, tied ones under the first name.

    `shapes` is what the model expects, `sources` where the checkpoint has it, `merges` how to make
    what the checkpoint has only in parts (experts, one by one), `values` holds the tensors that no
    checkpoint stores (rotary frequencies, constants in the code).
    """

    model_dir: ModelDir
    shapes: Mapping[str, tuple[int, ...]]
    sources: Mapping[str, str]
    merges: Mapping[str, Merge]
    values: Mapping[str, torch.Tensor]

    def get(self, name: str) -> torch.Tensor:
        """The tensor `name`, floats as float32, read from the file now and kept by nobody.

        Raises SparsecompError when the checkpoint lacks it or it holds a NaN or an infinity.
        """
        if name not in self.sources and name in self.values:
            value = self.values[name]
            return value.float() if value.is_floating_point() else value
        if name in self.merges:
            return self._merged(name)
        header = self._header(name)
        return check_finite(self._read(self.sources[name]).float(), name, header.file)

    def _read(self, key: str) -> torch.Tensor:
        with safe_open(self.model_dir.tensors[key].file, framework="pt") as tensors:
            return tensors.get_tensor(key)

    def _merged(self, name: str) -> torch.Tensor:
        """A tensor put together from its parts, as transformers does when it loads a model."""
        merge = self.merges[name]
        converter = copy.deepcopy(merge.converter)
        for pattern, key in merge.parts:
            # Annotated for its asynchronous use; a plain callable is its synchronous one.
            reader = functools.partial(self._read, key)
            converter.add_tensor(name, key, pattern, reader)  # type: ignore[arg-type]
        try:
            value = converter.convert(name, config=self.model_dir.config).get(name)
        except RuntimeError:  # parts of different sizes, or too few of them
            value = None
        value = value[0] if isinstance(value, list) else value
        if value is None or tuple(value.shape) != self.shapes[name]:
            raise SparsecompError(
                f"{self.model_dir.path}: tensor {name} is stored in {len(merge.parts)} parts that "
                f"do not make {_shape(self.shapes[name])}, which config.json asks for; a part is "
                "missing, or of another size"
            )
        file = self.model_dir.tensors[merge.parts[0][1]].file
        return check_finite(value.float(), name, file)

    def require(self, names: Iterable[str]) -> None:
        """Raise SparsecompError unless every one of `names` can be read, in the model's shape."""
        for name in names:
            if name in self.sources or name not in (*self.values, *self.merges):
                self._header(name)

    def _header(self, name: str) -> TensorHeader:
        if name not in self.sources:
            raise SparsecompError(
                f"{self.model_dir.path}: tensor {name} is missing from the checkpoint; "
                "give the weights of the model that config.json describes"
            )
        header = self.model_dir.tensors[self.sources[name]]
        if header.shape != self.shapes[name]:
            raise SparsecompError(
                f"{header.file}: tensor {self.sources[name]} has shape {_shape(header.shape)}, "
                f"config.json asks for {_shape(self.shapes[name])}"
            )
        if header.dtype not in _READABLE:
            raise SparsecompError(
                f"{header.file}: tensor {self.sources[name]} is stored as {header.dtype}; give "
                "unquantised weights (F32, F16 or BF16)"
            )
        return header


def match(
    model_dir: ModelDir, model: PreTrainedModel, names: Mapping[str, str]
) -> CheckpointWeights:
    """Find the tensors of `model` in the checkpoint, undoing the renames of transformers' history.

    `names` are the model's tensor names, each with the first of those tied to it.
    """
    state = dict(model.state_dict())
    conversions = get_model_conversion_mapping(model)
    renamings = [c for c in conversions if isinstance(c, WeightRenaming)]
    converters = [c for c in conversions if isinstance(c, WeightConverter)]
    sources: dict[str, str] = {}
    parts: dict[str, list[tuple[str, str]]] = {}
    for key in sorted(model_dir.tensors, key=dot_natural_key):  # the order of experts
        if key in state:
            sources[names[key]] = key
            continue
        name, pattern = rename_source_key(
            key, renamings, converters, model.base_model_prefix, state
        )
        if pattern is not None and name in state:
            parts.setdefault(names[name], []).append((pattern, key))
        elif name in state:
            sources.setdefault(names[name], key)
    return CheckpointWeights(
        model_dir=model_dir,
        shapes={name: tuple(state[name].shape) for name in names if name in state},
        sources=sources,
        merges={
            name: Merge(_converter(converters, found[0][0]), tuple(found))
            for name, found in parts.items()
        },
        values={name: b for name, b in model.named_buffers() if names[name] == name},
    )


def _converter(converters: Iterable[WeightConverter], pattern: str) -> WeightConverter:
    return next(c for c in converters if pattern in c.source_patterns)


def tensor_names(model: PreTrainedModel) -> dict[str, str]:
    """Every parameter and buffer name, with the first name of the same tensor."""
    first: dict[int, str] = {}
    names = {}
    for tensors in (model.named_parameters, model.named_buffers):
        for name, tensor in tensors(remove_duplicate=False):
            names[name] = first.setdefault(id(tensor), name)
    return names


def check_finite(value: torch.Tensor, name: str, file: Path) -> torch.Tensor:
    """`value`; raises SparsecompError when it holds a NaN or an infinity."""
    # A sum is finite only when all its terms are, and costs no mask as large as the tensor.
    if not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
        kind = "NaN" if torch.isnan(value).any() else "an infinity"
        raise SparsecompError(f"{file}: tensor {name} holds {kind}; the file is damaged")
    return value


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
