"""Recorded activations: files of rows, mapped when they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .histogram import Histogram

_MARKER = "recorded.json"
"""Written last: what lies beside it is whole."""
_HISTOGRAMS = "histograms.safetensors"


@dataclass(frozen=True)
class MlpRecord:
    """What an MLP did, a row a token.

    `inputs` (rows, in) bfloat16 and `labels` (rows, bytes) uint8, the packed bits of the neurons
    that are not 0, are there when its activation gives exact zeros. `values` counts
    `|value| * norm(column of down)` of its neurons, `gates` `|act(gate)|` where it has a gate.
    `moments` (in, in) float32 are the second moments of its inputs, `neuron_moments` those of what
    down reads, in pieces (see `collect`), where they were asked for.
    """

    units: int
    inputs: torch.Tensor | None
    labels: torch.Tensor | None
    values: Histogram
    gates: Histogram | None
    moments: torch.Tensor | None = None
    neuron_moments: tuple[torch.Tensor, ...] = ()

    @property
    def activity(self) -> float:
        """The share of neurons that add something."""
        return self.values.density_at(0.0)


@dataclass(frozen=True)
class AttentionRecord:
    """What an attention did, a row a token.

    `inputs` (rows, in) bfloat16 of its query projection; `norms` (rows, heads) float32, the
    Euclidean norm of what each head adds to the output (of the head itself, where no linear reads
    the heads alone). Where they were asked for, in pieces: the second moments of the inputs, as
    the linears of queries, keys and values read them, and `head_moments` of what the output's does.
    """

    units: int
    inputs: torch.Tensor
    norms: torch.Tensor
    query_moments: tuple[torch.Tensor, ...] = ()
    key_moments: tuple[torch.Tensor, ...] = ()
    value_moments: tuple[torch.Tensor, ...] = ()
    head_moments: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class HeadRecord:
    """What the head read: `inputs` (rows, in) bfloat16."""

    units: int
    inputs: torch.Tensor


@dataclass(frozen=True)
class Recordings:
    """Activations of blocks over `rows` tokens, by module."""

    rows: int
    mlps: Mapping[str, MlpRecord]
    attentions: Mapping[str, AttentionRecord]
    heads: Mapping[str, HeadRecord]


class RowsWriter:
    """Appends rows to a file, as `dtype`."""

    def __init__(self, path: Path, dtype: torch.dtype):
        self.path = path
        self.dtype = dtype
        self.width = 0
        self._file: BinaryIO = path.open("wb")

    def add(self, rows: torch.Tensor) -> None:
        """(n, width), of any float or integer type."""
        self.width = rows.shape[1]
        self._file.write(rows.to(self.dtype).contiguous().view(torch.uint8).numpy().data)

    def close(self) -> None:
        self._file.close()

    def entry(self) -> dict[str, Any]:
        return {
            "file": self.path.name,
            "dtype": str(self.dtype).removeprefix("torch."),
            "width": self.width,
        }


@dataclass(frozen=True)
class Entries:
    """What a directory of recordings holds, as its marker says it.

    `rows` tokens; `units` of each block; `files` by `<module>.<what>`, `what` one of inputs,
    labels, norms.
    """

    rows: int
    mlps: Mapping[str, int]
    attentions: Mapping[str, int]
    heads: Mapping[str, int]
    files: Mapping[str, Mapping[str, Any]]


def save(
    directory: Path, key: str, entries: Entries, histograms: Mapping[str, torch.Tensor]
) -> None:
    """Finish a directory whose row files are written: from now on it counts."""
    save_file(dict(histograms), directory / _HISTOGRAMS)
    marker = {"key": key} | {name: getattr(entries, name) for name in Entries.__annotations__}
    temporary = directory / f"{_MARKER}.tmp"
    temporary.write_text(json.dumps(marker))
    os.replace(temporary, directory / _MARKER)


def load(directory: Path, key: str) -> Recordings | None:
    """The recordings under `key`; None when there are none, or they are not whole."""
    try:
        marker = json.loads((directory / _MARKER).read_text())
        if marker.pop("key") != key:
            return None
        entries = Entries(**marker)
        rows = {
            name: _map(directory / f["file"], entries.rows, f["width"], f["dtype"])
            for name, f in entries.files.items()
        }
        counts = load_file(directory / _HISTOGRAMS)
        mlps = {
            module: MlpRecord(
                units,
                rows.get(f"{module}.inputs"),
                rows.get(f"{module}.labels"),
                Histogram(counts[f"{module}.values"]),
                Histogram(counts[f"{module}.gates"]) if f"{module}.gates" in counts else None,
                next(iter(_pieces(counts, f"{module}.moments")), None),
                _pieces(counts, f"{module}.neuron_moments"),
            )
            for module, units in entries.mlps.items()
        }
        attentions = {
            module: AttentionRecord(
                units,
                rows[f"{module}.inputs"],
                rows[f"{module}.norms"],
                *(
                    _pieces(counts, f"{module}.{of}_moments")
                    for of in ("query", "key", "value", "head")
                ),
            )
            for module, units in entries.attentions.items()
        }
        heads = {
            module: HeadRecord(units, rows[f"{module}.inputs"])
            for module, units in entries.heads.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError):
        return None
    return Recordings(entries.rows, mlps, attentions, heads)


def _pieces(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, ...]:
    """The tensors `name`.0, `name`.1 and so on, as far as there are any."""
    found: list[torch.Tensor] = []
    while (piece := tensors.get(f"{name}.{len(found)}")) is not None:
        found.append(piece)
    return tuple(found)


def _map(path: Path, rows: int, width: int, dtype: str) -> torch.Tensor:
    """A file of rows as a tensor that is read as it is used."""
    type = getattr(torch, dtype)
    if path.stat().st_size != rows * width * type.itemsize:
        raise ValueError(f"{path} is cut")
    mapped = torch.from_file(str(path), shared=False, size=rows * width, dtype=type)
    return mapped.view(rows, width)
