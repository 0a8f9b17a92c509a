"""The values of an MLP's neurons, of all or of those that a list names."""

import triton
import triton.language as tl

from .act import activate
from .factors import factors, plain
from .lists import add_up, load_ends, load_entries
from .rows import dot_rows
from .select import choose


@triton.jit
def _product(
    x,
    weights,
    bias,
    z,
    correction,
    n,
    there,
    PART: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    FACTORS: tl.constexpr,
    BIAS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_Z: tl.constexpr,
):
    """The products of x with ROWS n, and what is added to them; a neuron has PARTS of them."""
    y = dot_rows(x, weights, n, there, BLOCK_K, ROWS)
    if FACTORS is not None:
        y += dot_rows(plain(z), correction, n * PARTS + PART, there, BLOCK_Z, FACTORS)
    if BIAS:
        y += tl.load(bias + n, mask=there, other=0.0)
    return y


@triton.jit
def neuron_values(
    x,
    norm_weight,
    norm_bias,
    list,
    gates,
    weights,
    gate_bias,
    up_bias,
    z,
    correction,
    out,
    read,
    scales,
    limits,
    chosen,
    counts,
    other_scales,
    other_limits,
    other_chosen,
    other_counts,
    NORM: tl.constexpr,
    NEURONS: tl.constexpr,
    LIST: tl.constexpr,
    GATE: tl.constexpr,
    UP: tl.constexpr,
    FACTORS: tl.constexpr,
    GATES_KNOWN: tl.constexpr,
    GATE_BIAS: tl.constexpr,
    UP_BIAS: tl.constexpr,
    ACT: tl.constexpr,
    COUNTED: tl.constexpr,
    KEEP: tl.constexpr,
    CHOICE: tl.constexpr,
    OTHER: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_Z: tl.constexpr,
):
    """out[n] = act(gate_n . x) (up_n . x), or act(up_n . x), or act(gate_n . x).

    GATE and UP are rows of the weights, FACTORS those of what a correction adds to their products
    with x: None where there are none. A neuron whose gate is 0 is not read further; how many are
    goes to `read` where COUNTED. LIST: how the list lies that names neurons; None: it is all.
    CHOICE and OTHER: what is chosen by the values, a block at a time, see `choose`; None where
    nothing is. The values themselves are written if KEEP says so.
    grid: (PROGRAMS), which take blocks of neurons in turn.
    """
    x = factors(x, norm_weight, norm_bias, NORM)
    PARTS: tl.constexpr = 1 if GATE is None else 2
    ZEROS: tl.constexpr = ACT == "relu" or ACT == "relu2"
    count = NEURONS
    if LIST is not None:
        ends = load_ends(list, LIST)
        count = tl.max(ends, 0)
    further = tl.zeros((BLOCK_N,), tl.int32)
    for first in range(tl.program_id(0) * BLOCK_N, count, PROGRAMS * BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        there = n < count
        if LIST is not None:
            n = load_entries(list, ends, n, there, 0, LIST)
        alive = there
        if GATE is not None:
            gate = _product(
                x, weights, gate_bias, z, correction, n, there, 0, PARTS, GATE, FACTORS, GATE_BIAS,
                BLOCK_K, BLOCK_Z,
            )  # fmt: skip
            value = activate(gate, ACT)
            if ZEROS:
                alive = there & (value != 0.0)
        elif GATES_KNOWN:
            value = tl.load(gates + n, mask=there, other=0.0)
        if UP is not None:
            up = _product(
                x, weights, up_bias, z, correction, n, alive, PARTS - 1, PARTS, UP, FACTORS,
                UP_BIAS, BLOCK_K, BLOCK_Z,
            )  # fmt: skip
            value = value * up if GATE is not None or GATES_KNOWN else activate(up, ACT)
        if COUNTED:
            if GATE is None and ZEROS:
                alive = there & (value != 0.0)
            further += alive.to(tl.int32)
        if KEEP:
            tl.store(out + n, value, mask=there)
        group = first // BLOCK_N
        choose(value, n, there, group, scales, limits, chosen, counts, CHOICE)
        choose(
            value, n, there, group, other_scales, other_limits, other_chosen, other_counts, OTHER
        )
    if COUNTED:
        add_up(read + tl.program_id(0), tl.sum(further, 0))
