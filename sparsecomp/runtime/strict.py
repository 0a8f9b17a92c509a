"""Strict reading of JSON into frozen dataclasses: every key, type and range is checked, because
the file may come from anywhere."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import json
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from sparsecomp.errors import SparsecompError

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Range:
    """Marks a number's lowest and highest value."""

    low: int
    high: int = _INT64_MAX


NonNegative = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
"""A part of a whole: 0 to 1."""


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


def check_version(document: dict[str, Any], known: int) -> None:
    """Takes `format_version` out of a document. Raises SparsecompError unless it is `known`."""
    version = document.pop("format_version", None)
    if type(version) is not int or version < 1:
        raise SparsecompError("format_version: is not a positive integer")
    if version > known:
        raise SparsecompError(
            f"format_version: is {version}, this runtime reads up to {known}; "
            "update sparsecomp, or compile the model again with this one"
        )
    if version < known:
        raise SparsecompError(
            f"format_version: is {version}, this runtime reads {known}; compile the model again"
        )


def decode(kind: Any, value: Any, where: str = "") -> Any:
    """Turns parsed JSON into `kind`, checking all of it.

    `kind` is a dataclass, enum, str, int, float or bool; a number with a Range; a tuple, mapping or
    `| None` of those; or a union of dataclasses, told apart by their fields.
    Raises SparsecompError naming the field that is wrong.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        number = decode(arguments[0], value, where)
        low, high = arguments[1].low, arguments[1].high
        if not low <= number <= high:
            raise SparsecompError(f"{where}: is {number}, must be {low} to {high}")
        return number
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value, where)
    if origin is tuple:
        items = _expect(list, value, where)
        return tuple(decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is collections.abc.Mapping:
        return {
            decode(arguments[0], key, where): decode(arguments[1], item, f"{where}.{key}")
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
    if kind is float and not math.isfinite(scalar):  # such as 1e999
        raise SparsecompError(f"{where}: is not a finite number")
    return scalar


def _decode_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    some = [kind for kind in kinds if kind is not types.NoneType]
    if len(some) == 1:
        return decode(some[0], value, where)
    document = _expect(dict, value, where)
    for kind in some:
        if {field.name for field in dataclasses.fields(kind)} == document.keys():
            return decode(kind, document, where)
    known = " or ".join(kind.__name__ for kind in some)
    raise SparsecompError(f"{where}: has not the fields of {known}")


def _decode_fields(kind: Any, document: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind, include_extras=True)
    prefix = f"{where}." if where else ""
    for name in hints.keys() ^ document.keys():
        problem = "is missing" if name in hints else "is not known"
        raise SparsecompError(f"{prefix}{name}: {problem}")
    values = {n: decode(h, document[n], f"{prefix}{n}") for n, h in hints.items()}
    try:
        return kind(**values)
    except SparsecompError as error:
        raise SparsecompError(f"{where}: {error}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key is given twice")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _expect(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:  # not isinstance: True is no integer
        raise SparsecompError(f"{where}: is {type(value).__name__}, must be {kind.__name__}")
    return value
