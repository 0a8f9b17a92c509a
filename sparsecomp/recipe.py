"""A recipe: every decision about sparsity in a compile, block by block, as YAML to keep and reuse.

recipe: 1
model: relu-opt-18m
seed: 0
wider: [lm_head]
blocks:
  model.decoder.layers.0: {kind: cutoff, of: neuron, threshold: 0.0, density: 0.3}
  model.decoder.layers.1: {kind: low_rank, rank: 64, density: 0.15, active: 0.04, ...}
  model.decoder.layers.1.self_attn: {kind: dense}
  model.decoder.layers.2.self_attn: {kind: narrow, bits: 6, output_bits: 8}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sparsecomp.errors import SparsecompError
from sparsecomp.sparsity import KINDS, Choice, Exact, Option, Plan, kind_of

VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """What each block becomes: a choice, or None for dense. `seed` is that of the training.
    `wider` are weights, or modules of weights, that --dtype int8 or int4 leaves in bf16."""

    model: str
    seed: int
    blocks: Mapping[str, Choice | None]
    wider: tuple[str, ...] = ()

    def plan(self) -> Plan:
        """The plan that leaves no other choice."""
        return Plan(
            {n: () if c is None else (Option(c, 0.0),) for n, c in self.blocks.items()}, forced=True
        )


def dump_recipe(recipe: Recipe) -> str:
    """The YAML text of a recipe; `parse_recipe` gives the same recipe back."""
    document = {
        "recipe": VERSION,
        "model": recipe.model,
        "seed": recipe.seed,
        "wider": list(recipe.wider),
        "blocks": {name: _entry(choice) for name, choice in recipe.blocks.items()},
    }
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=1000)


def read_recipe(path: Path) -> Recipe:
    """Raises SparsecompError naming the file and the field that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SparsecompError(
            f"recipe {path}: not text (byte {error.start} is not UTF-8)"
        ) from error
    except OSError as error:
        raise SparsecompError(f"recipe {path}: cannot be read: {error.strerror}") from error
    try:
        return parse_recipe(text)
    except SparsecompError as error:
        raise SparsecompError(f"recipe {path}: {error}") from error


def parse_recipe(text: str) -> Recipe:
    """Raises SparsecompError for what is no recipe."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SparsecompError(f"is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or document.get("recipe") != VERSION:
        raise SparsecompError(f"does not begin with recipe: {VERSION}")
    if unknown := document.keys() - {"recipe", "model", "seed", "wider", "blocks"}:
        raise SparsecompError(f"{', '.join(map(str, sorted(unknown, key=str)))}: is not known")
    seed, blocks = document.get("seed", 0), document.get("blocks", {})
    if type(seed) is not int or seed < 0:
        raise SparsecompError(f"seed: is {seed!r}, must be an integer from 0 on")
    wider = document.get("wider", [])
    if not isinstance(wider, list) or not all(isinstance(name, str) for name in wider):
        raise SparsecompError("wider: must be a list of names of weights or modules")
    if not isinstance(blocks, dict):
        raise SparsecompError("blocks: must name blocks, each with its choice")
    return Recipe(
        str(document.get("model", "")),
        seed,
        {str(name): _choice(str(name), entry) for name, entry in blocks.items()},
        tuple(wider),
    )


def _entry(choice: Choice | None) -> dict[str, Any]:
    if choice is None:
        return {"kind": "dense"}
    fields = {
        field.name: str(value) if isinstance(value, Exact) else value
        for field in dataclasses.fields(choice)
        if (value := getattr(choice, field.name)) != field.default
    }
    return {"kind": kind_of(choice), **fields}


def _choice(name: str, entry: Any) -> Choice | None:
    if not isinstance(entry, dict) or entry.get("kind") not in {"dense", *KINDS}:
        raise SparsecompError(f"{name}: needs a kind, one of dense, {', '.join(KINDS)}")
    given = {key: value for key, value in entry.items() if key != "kind"}
    if entry["kind"] == "dense":
        if given:
            raise SparsecompError(
                f"{name}: a dense block has nothing else, but {min(given)} is given"
            )
        return None
    kind = KINDS[entry["kind"]]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in given.keys() - fields.keys():
        raise SparsecompError(f"{name}: {key} is not known; there are {', '.join(fields)}")
    for field in fields.values():
        if field.name not in given and field.default is dataclasses.MISSING:
            raise SparsecompError(f"{name}: {field.name} is missing")
    values = {key: _value(name, key, str(fields[key].type), value) for key, value in given.items()}
    try:
        return kind(**values)
    except SparsecompError as error:
        raise SparsecompError(f"{name}: {error}") from error


def _value(name: str, key: str, type_name: str, value: Any) -> Any:
    match type_name, value:
        case "Exact", str() if value in tuple(Exact):
            return Exact(value)
        case "int", int() if not isinstance(value, bool):
            return value
        case "float", int() | float() if not isinstance(value, bool):
            return float(value)
    wanted = {"Exact": f"one of {', '.join(Exact)}", "int": "an integer", "float": "a number"}
    raise SparsecompError(f"{name}: {key} is {value!r}, must be {wanted[type_name]}")
