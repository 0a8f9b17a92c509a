"""Which weights a narrow choice keeps in fewer bits, and which blocks can be narrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sparsecomp import nibbles
from sparsecomp.dialects import spz
from sparsecomp.options import Dtype
from sparsecomp.sparsity import FULL_BITS, Narrow

from .base import covers
from .blocks import AttentionBlock, MlpBlock
from .choose_layouts import symbols


@dataclass(frozen=True)
class Narrowed:
    """A side of a block: the ops that read its weights, which are kept in so many bits."""

    ops: tuple[spz.SpzOp, ...]
    weights: tuple[str, ...]
    bits: int


def rounded_name(weight: str, bits: int) -> str:
    """What a weight is called as calibration rounds it to so many bits."""
    return f"{weight}.in_{bits}_bits"


def narrowed(block: MlpBlock | AttentionBlock, choice: Narrow) -> list[Narrowed]:
    """All weights that a choice speaks of, those that it leaves in 8 bits too."""
    if isinstance(block, MlpBlock):
        return [
            Narrowed((block.op,), symbols(block.op, "gate", "up"), choice.bits),
            Narrowed((block.op,), symbols(block.op, "down"), choice.output_bits),
        ]
    keys = [op for op in (block.key, block.value) if op is not None]
    found = [_linears([block.query], choice.bits)]
    if keys:
        found.append(_linears(keys, choice.bits_of_keys))
    if block.output is not None:
        found.append(_linears([block.output], choice.output_bits))
    return found


def _linears(ops: Sequence[spz.Linear], bits: int) -> Narrowed:
    return Narrowed(tuple(ops), tuple(op.weight.string_value() for op in ops), bits)


def refusal(
    block: MlpBlock | AttentionBlock, choice: Narrow, dtype: Dtype, wider: Iterable[str]
) -> str | None:
    """Why a block cannot be narrow so; None: it can, and is where its rows are long enough."""
    if dtype is not Dtype.INT8:
        return f"narrow needs weights in {FULL_BITS} bits: --dtype int8"
    if (
        isinstance(block, AttentionBlock)
        and block.output is None
        and choice.output_bits != FULL_BITS
    ):
        return f"no linear alone reads its heads; output_bits: {FULL_BITS} would work"
    if choice.key_value_bits and (isinstance(block, MlpBlock) or block.key is block.value is None):
        return "no linears give keys and values here; without key_value_bits it would work"
    names = [name for part in narrowed(block, choice) for name in part.weights]
    for name in names:
        if any(covers(wide, name) for wide in wider):
            return f"narrow needs weights in {FULL_BITS} bits, but {name} is in the recipe's wider"
    if shared := _read_elsewhere(block, choice):
        return f"narrow needs weights of its own, but {shared} is read elsewhere too"
    return None


def _read_elsewhere(block: MlpBlock | AttentionBlock, choice: Narrow) -> str | None:
    """A weight of the block that another op of its function reads."""
    parts = narrowed(block, choice)
    own = {op for part in parts for op in part.ops}
    function = block.op.parent_block()
    assert function is not None
    read = {
        name for op in function.ops if op not in own for name in symbols(op, *op.properties.keys())
    }
    return next((name for part in parts for name in part.weights if name in read), None)


def has_long_rows(block: MlpBlock | AttentionBlock, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether all of a block's matrices are quantised and lie by rows: an MLP's neurons must take
    less in 8 bits too, see quantize-weights."""
    if isinstance(block, MlpBlock):
        down = block.op.down.string_value()
        widths = [*shapes[down], shapes[block.op.up.string_value()][1]]
    else:
        linears = (block.query, block.key, block.value, block.output)
        widths = [shapes[op.weight.string_value()][1] for op in linears if op is not None]
    return all(nibbles.pays(width, FULL_BITS) for width in widths)
