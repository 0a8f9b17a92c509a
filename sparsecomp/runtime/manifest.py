"""manifest.json: what an artifact says about itself, as frozen dataclasses.

Reading is strict: every key, type and range is checked, because the file may come from anywhere.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from sparsecomp.errors import SparsecompError

FORMAT = "sparsecomp"
FORMAT_VERSION = 1
ABI_VERSION = 1
"""Version of the C interface between the runtime and a native program (`sc_abi_version`)."""


class Dtype(enum.StrEnum):
    """How weights and the KV cache are stored."""

    F32 = "f32"
    BF16 = "bf16"


class Target(enum.StrEnum):
    """Instruction sets that a native program may be compiled for."""

    X86_64_V3 = "x86-64-v3"
    X86_64_V4 = "x86-64-v4"
    NATIVE = "native"
    AARCH64 = "aarch64"


class Machine(enum.StrEnum):
    """Processor families, as `platform.machine()` spells them on Linux."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


class Part(enum.StrEnum):
    """Parts of a model that a decode step's bytes are counted by."""

    EMBED = "embed"
    ATTENTION = "attention"
    MLP = "mlp"
    HEAD = "head"
    OTHER = "other"


@dataclass(frozen=True)
class AtLeast:
    """Marks an integer field's lowest value; the highest is that of a signed 64-bit integer."""

    low: int


NonNegative = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Member:
    """Size in bytes and lower-case hex SHA-256 of one member of the artifact."""

    size: NonNegative
    sha256: str


@dataclass(frozen=True)
class Program:
    """One native program: `cpu_flags` are the names in /proc/cpuinfo that it needs."""

    target: Target
    machine: Machine
    cpu_flags: tuple[str, ...]
    member: str
    workers: Positive
    abi_version: Positive


@dataclass(frozen=True)
class ModelFacts:
    """The model that was compiled.

    `context` is the largest number of positions. `rewind_limit` is how many positions below the
    furthest one reached a session can go back to (None: all of them): sliding-window layers
    keep only a ring of positions.
    """

    name: str
    vocab_size: Positive
    context: Positive
    layers: NonNegative
    hidden: Positive
    parameters: NonNegative
    dtype: Dtype
    eos_token_ids: tuple[NonNegative, ...]
    bos_token_id: NonNegative | None
    rewind_limit: NonNegative | None


@dataclass(frozen=True)
class Manifest:
    """Everything in manifest.json.

    `bytes_per_token`: bytes of weights that one decode step reads, by part of the model.
    `kv_bytes_per_position`: bytes of KV cache that one position takes.
    `weights_bytes`: bytes of the data section of weights.safetensors.
    `members`: every member but the manifest itself; the writer fills it in.
    """

    compiler_version: str
    model: ModelFacts
    programs: tuple[Program, ...]
    bytes_per_token: Mapping[Part, NonNegative]
    kv_bytes_per_position: NonNegative
    weights_bytes: NonNegative
    members: Mapping[str, Member] = dataclasses.field(default_factory=dict)


def program_member(target: Target) -> str:
    """Name of the member that holds the native program for `target`."""
    return f"native/{target.value}.so"


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON text of a manifest, checked by reading it back. Raises SparsecompError."""
    document = {"format": FORMAT, "format_version": FORMAT_VERSION}
    document.update(dataclasses.asdict(manifest))
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    parse_manifest(text)
    return text


def parse_manifest(text: bytes) -> Manifest:
    """Reads and checks manifest.json. Raises SparsecompError naming the field that is wrong."""
    document = parse_json_object(text)
    if document.pop("format", None) != FORMAT:
        raise SparsecompError(f'format: is not "{FORMAT}"')
    version = document.pop("format_version", None)
    if type(version) is not int or version < 1:
        raise SparsecompError("format_version: is not a positive integer")
    if version > FORMAT_VERSION:
        raise SparsecompError(
            f"format_version: is {version}, this runtime reads up to {FORMAT_VERSION}; "
            "update sparsecomp, or compile the model again with this one"
        )
    manifest: Manifest = _decode(Manifest, document, "")
    _check(manifest)
    return manifest


def parse_json_object(text: bytes) -> dict[str, Any]:
    """A JSON object without doubled keys, NaN or infinities. Raises SparsecompError."""
    try:
        document = json.loads(
            text.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise SparsecompError("is nested too deeply") from None
    except ValueError as error:
        raise SparsecompError(f"is not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise SparsecompError("is not a JSON object")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key is given twice")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _decode(kind: Any, value: Any, where: str) -> Any:
    """Turns parsed JSON into `kind` (a dataclass, enum, str, int, or a tuple, mapping, `| None`,
    or bounded integer of those), checking all of it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        number = _decode(arguments[0], value, where)
        low = arguments[1].low
        if not low <= number <= _INT64_MAX:
            raise SparsecompError(f"{where}: is {number}, must be {low} to {_INT64_MAX}")
        return number
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decode(arguments[0], value, where)
    if origin is tuple:
        items = _expect(list, value, where)
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is collections.abc.Mapping:
        return {
            _decode(arguments[0], key, where): _decode(arguments[1], item, f"{where}.{key}")
            for key, item in _expect(dict, value, where).items()
        }
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, _expect(dict, value, where), where)
    if issubclass(kind, enum.StrEnum):
        try:
            return kind(_expect(str, value, where))
        except ValueError:
            known = ", ".join(member.value for member in kind)
            raise SparsecompError(f"{where}: is {value!r}, must be one of {known}") from None
    scalar = _expect(kind, value, where)
    if kind is str and not scalar.isprintable():
        raise SparsecompError(f"{where}: has characters that cannot be printed")
    return scalar


def _decode_fields(kind: Any, document: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind, include_extras=True)
    prefix = f"{where}." if where else ""
    for name in hints.keys() ^ document.keys():
        problem = "is missing" if name in hints else "is not known"
        raise SparsecompError(f"{prefix}{name}: {problem}")
    return kind(**{n: _decode(h, document[n], f"{prefix}{n}") for n, h in hints.items()})


def _expect(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:  # not isinstance: True is no integer
        raise SparsecompError(f"{where}: is {type(value).__name__}, must be {kind.__name__}")
    return value


def _check(manifest: Manifest) -> None:
    model = manifest.model
    for field, ids in (
        ("eos_token_ids", model.eos_token_ids),
        ("bos_token_id", () if model.bos_token_id is None else (model.bos_token_id,)),
    ):
        for token in ids:
            if token >= model.vocab_size:
                raise SparsecompError(
                    f"model.{field}: {token} is not below vocab_size {model.vocab_size}"
                )
    if not manifest.programs:
        raise SparsecompError("programs: is empty")
    if len({program.target for program in manifest.programs}) != len(manifest.programs):
        raise SparsecompError("programs: a target is given twice")
    for i, program in enumerate(manifest.programs):
        if program.member != program_member(program.target):
            raise SparsecompError(
                f"programs[{i}].member: is {program.member!r}, "
                f"must be {program_member(program.target)!r}"
            )
    for name, member in manifest.members.items():
        if not re.fullmatch("[0-9a-f]{64}", member.sha256):
            raise SparsecompError(f"members.{name}.sha256: is not a SHA-256 in hex")
