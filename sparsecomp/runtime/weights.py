"""The safetensors header: where each tensor lies in the data section.

safetensors neither aligns tensors nor allows holes between them. Here every tensor starts on
ALIGNMENT bytes and the gaps are named tensors of zeros, so that the file stays readable by the
safetensors library. The header is padded with spaces so that the data section is aligned too.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.strict import parse_json_object

ALIGNMENT = 64
"""A cache line, and the widest vector register, in bytes."""

_PADDING_PREFIX = "__padding__."
_LENGTH_BYTES = 8
_HEADER_MAX = 1 << 30


class TensorDtype(enum.StrEnum):
    """Element types, by their names in safetensors."""

    F32 = "F32"
    BF16 = "BF16"
    U8 = "U8"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return {TensorDtype.F32: 4, TensorDtype.BF16: 2, TensorDtype.U8: 1}[self]


@dataclass(frozen=True)
class Tensor:
    """One tensor: `offset` and `size` are bytes in the data section."""

    dtype: TensorDtype
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class WeightsHeader:
    """`data_start` and `data_size`: the data section, in bytes of the member.
    `tensors`: by name, in the order of their offsets, without the padding."""

    data_start: int
    data_size: int
    tensors: Mapping[str, Tensor]


def aligned(offset: int) -> int:
    """The lowest multiple of ALIGNMENT that is not below `offset`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def place_tensors(entries: Iterable[tuple[str, str, Sequence[int]]]) -> dict[str, Tensor]:
    """Places tensors one after another, each aligned.

    `entries` are (name, dtype, shape). Raises SparsecompError for a doubled or reserved name.
    """
    tensors: dict[str, Tensor] = {}
    end = 0
    for name, dtype_name, shape in entries:
        if name in tensors or name == "__metadata__" or name.startswith(_PADDING_PREFIX):
            raise SparsecompError(f"weight {name!r}: the name is doubled or reserved")
        dtype = TensorDtype(dtype_name)
        offset, size = aligned(end), math.prod(shape) * dtype.itemsize
        tensors[name] = Tensor(dtype, tuple(shape), offset, size)
        end = offset + size
    return tensors


def encode_weights_header(tensors: Mapping[str, Tensor]) -> bytes:
    """The member's first bytes (a multiple of ALIGNMENT long): length, JSON, spaces."""
    document: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        if tensor.offset > end:
            document[f"{_PADDING_PREFIX}{end}"] = _json_entry(
                TensorDtype.U8, (tensor.offset - end,), end, tensor.offset
            )
        end = tensor.offset + tensor.size
        document[name] = _json_entry(tensor.dtype, tensor.shape, tensor.offset, end)
    text = json.dumps(document, separators=(",", ":")).encode()
    text = text.ljust(aligned(_LENGTH_BYTES + len(text)) - _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _json_entry(
    dtype: TensorDtype, shape: Sequence[int], begin: int, end: int
) -> dict[str, object]:
    return {"dtype": dtype.value, "shape": list(shape), "data_offsets": [begin, end]}


def parse_weights_header(member: memoryview) -> WeightsHeader:
    """Reads and checks the header of weights.safetensors (all of the member's bytes).

    Raises SparsecompError naming the tensor that is out of bounds, overlaps, leaves a hole, is
    not aligned, or whose dtype and shape do not give its size.
    """
    length = int.from_bytes(member[:_LENGTH_BYTES], "little")
    data_start = _LENGTH_BYTES + length
    if len(member) < _LENGTH_BYTES or length > _HEADER_MAX or data_start > len(member):
        raise SparsecompError("its header is longer than the member")
    if data_start % ALIGNMENT:
        raise SparsecompError(f"its data does not start on {ALIGNMENT} bytes")
    document = parse_json_object(bytes(member[_LENGTH_BYTES:data_start]))
    everything = {name: _parse_tensor(name, entry) for name, entry in document.items()}
    end = 0
    tensors = {}
    # Empty tensors first: they share their offset with the next one.
    for name, tensor in sorted(everything.items(), key=lambda x: (x[1].offset, x[1].size)):
        if tensor.offset != end:
            problem = "overlaps the one before it" if tensor.offset < end else "leaves a hole"
            raise SparsecompError(f"tensor {name!r} {problem}")
        end += tensor.size
        if name.startswith(_PADDING_PREFIX):
            continue
        if tensor.offset % ALIGNMENT:
            raise SparsecompError(f"tensor {name!r} does not start on {ALIGNMENT} bytes")
        tensors[name] = tensor
    if end != len(member) - data_start:
        raise SparsecompError(
            f"its tensors end at byte {end} of {len(member) - data_start} bytes of data"
        )
    return WeightsHeader(data_start, end, tensors)


def _parse_tensor(name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict) or len(entry) != 3:
        raise SparsecompError(f"tensor {name!r}: must have dtype, shape and data_offsets")
    match entry:
        case {"dtype": str(dtype_name), "shape": list(shape), "data_offsets": [begin, end]} if (
            dtype_name in list(TensorDtype)
            and all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        ):
            dtype = TensorDtype(dtype_name)
        case _:
            raise SparsecompError(f"tensor {name!r}: its dtype, shape or offsets are not valid")
    size = math.prod(shape) * dtype.itemsize
    if end - begin != size:
        raise SparsecompError(
            f"tensor {name!r}: {end - begin} bytes, its dtype and shape need {size}"
        )
    return Tensor(dtype, tuple(shape), begin, size)
