"""Kernels that programs are measured against."""

import triton
import triton.language as tl


@triton.jit
def skipping_gemv(
    x,
    columns,
    sums,
    threshold,
    inputs,
    outputs,
    SPLIT: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
):
    """sums += columns.T @ x over a split of the inputs; grid: (blocks of outputs, splits)."""
    n = tl.program_id(0) * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    least = tl.load(threshold)
    total = tl.zeros((BLOCK_OUTPUTS,), tl.float32)
    first = tl.program_id(1) * SPLIT
    for start in range(first, first + SPLIT, BLOCK_INPUTS):
        k = start + tl.arange(0, BLOCK_INPUTS)
        factor = tl.load(x + k, mask=k < inputs, other=0.0).to(tl.float32)
        read = (tl.abs(factor) > least)[:, None] & (n < outputs)[None, :]
        part = tl.load(columns + k[:, None] * outputs + n[None, :], mask=read, other=0.0)
        total += tl.sum(factor[:, None] * part.to(tl.float32), 0)
    tl.atomic_add(sums + n, total, mask=n < outputs)


@triton.jit
def read(data, sums, count, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    """A sum for each program, of BLOCKS blocks."""
    total = tl.zeros((BLOCK,), tl.float32)
    first = tl.program_id(0).to(tl.int64) * BLOCK * BLOCKS
    for block in range(BLOCKS):
        i = first + block * BLOCK + tl.arange(0, BLOCK)
        total += tl.load(data + i, mask=i < count, other=0.0)
    tl.store(sums + tl.program_id(0), tl.sum(total, 0))
