"""The native kernels against float64, at sizes that are not multiples of any vector.

Every input ends right before NaNs and every output right before sentinels, so that a read or a
write past the end of a row is seen as a wrong value.
"""

import ctypes
import itertools
import math
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sparsecomp import sketches
from sparsecomp.passes.schedule_workers import NEURONS_PER_BLOCK, ROWS_AT_ONCE, even_bounds
from sparsecomp.sketch_rounding import (
    packed_refinement,
    packed_sketch,
    round_factors,
    rounded_cascade,
    rounded_sketch,
)

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "sparsecomp" / "codegen" / "native"
FLAGS = ["-O2", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-Wall", "-Wextra"]
EPS = 2.0**-24  # half a unit in the last place of f32
SENTINEL = np.float32(12345.0)
PAD = 40  # elements around the data: more than any vector holds
RNG = np.random.default_rng(0)

Array = np.ndarray
Case = tuple[str, int, int, int, int]  # T, heads, kv heads, D, DV


def _targets() -> list[str]:
    if platform.machine() != "x86_64":
        return ["native"]
    flags = Path("/proc/cpuinfo").read_text().split()
    v4 = ["x86-64-v4"] if "avx512f" in flags and "gfni" in flags else []  # native has more then
    v3 = ["x86-64-v3"] if "avx2" in flags and "fma" in flags else []
    return ["native", *v4, *v3, "x86-64"]  # the last has vectors of 4, as NEON has


@pytest.fixture(scope="module", params=_targets())
def lib(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    out = tmp_path_factory.mktemp("native") / "kernels.so"
    target = [f"-march={request.param}", f"-I{KERNELS}", "-shared", "-fPIC", "-pthread"]
    command = ["g++", *FLAGS, *target, str(HERE / "harness.cpp"), "-o", str(out)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "warning" not in built.stderr, built.stderr
    return ctypes.CDLL(str(out))


def call(function: Callable[..., object], *args: Array | int | float | None) -> None:
    """Calls a kernel: arrays as pointers, ints as int64, floats as f32, None as null."""
    converted: list[object] = []
    for a in args:
        if a is None:
            converted.append(ctypes.c_void_p())
        elif isinstance(a, np.ndarray):
            converted.append(ctypes.c_void_p(a.ctypes.data))
        else:
            converted.append(ctypes.c_float(a) if isinstance(a, float) else ctypes.c_int64(a))
    function(*converted)


def f32(values: Array) -> Array:
    """A copy that ends right before NaNs."""
    flat = np.asarray(values, np.float32)
    room = np.full(flat.size + PAD, np.nan, np.float32)
    room[: flat.size] = flat.ravel()
    return room[: flat.size].reshape(flat.shape)


def bf16(values: Array) -> Array:
    """Rounded to nearest even, as uint16; ends right before NaNs."""
    u = np.asarray(values, np.float32).view(np.uint32)
    rounded = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
    room = np.full(u.size + PAD, 0x7FC0, np.uint16)
    room[: u.size] = rounded.ravel()
    return room[: u.size].reshape(u.shape)


def wide(stored: Array) -> Array:
    """What a stored array means, in float64."""
    if stored.dtype == np.uint16:
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64)


STORE = {"f32": f32, "bf16": bf16}
QUANTIZED = {"int8": 8, "int6": 6, "int5": 5, "int4": 4}
"""And their bits."""


@dataclass(frozen=True)
class Weights:
    """Stored rows: the bytes that a kernel reads, the (rows, K) float64 that they mean, and what
    of it is of outliers."""

    stored: Array
    exact: Array
    outliers: Array | float = 0.0

    @property
    def rows(self) -> int:
        return len(self.exact)


def weights(t: str, values: Array, spread: bool = True) -> Weights:
    """A matrix in storage, which ends right before NaNs. A row of NaNs means a row of them.

    Of quantised rows those to multiply are spread, those to add are not."""
    if t in QUANTIZED:
        high, low, exact, outliers = planes(t, values, spread)
        return Weights(sheets([high], [low]), exact, outliers)
    stored = STORE[t](values)
    return Weights(stored, wide(stored))


def planes(t: str, values: Array, spread: bool) -> tuple[Array, Array, Array, Array]:
    """The high planes, the low planes, the meaning of the rows of a matrix, and that of outliers.

    Zero is the weight farthest from what pads a row here.
    """
    n, k = values.shape
    padded = np.zeros((n, k + -k % 64))
    padded[:, :k] = values
    groups = padded.reshape(n, -1, 32)
    largest = np.abs(groups).max(axis=2)
    step = 2 ** (8 - QUANTIZED[t])
    zero = 128 - (step - 1) / 2
    steps = 256 - step - zero
    needed = np.where(largest == 0, 1, largest) / steps
    row_scales = bf16(needed.max(axis=1) / 250)
    of_row = wide(row_scales)[:, None]
    steps_of_groups = np.ceil(np.nan_to_num(needed / of_row)).astype(np.uint8)
    s = (steps_of_groups * of_row)[:, :, None]
    u = np.nan_to_num(groups / s) + zero
    q = step * np.clip(np.rint(u / step), 0, 256 / step - 1)
    levels = q - zero
    if QUANTIZED[t] in (6, 5):  # closer together about 0
        c = levels + 0.5
        levels = np.floor(c * (192 + np.floor(c * c / 256)) / 256) + 0.5
    exact = (s * levels).reshape(n, -1)[:, :k]
    outlier = RNG.integers(0, k, n)
    # Of one sign, and of a size with the weight: no digits are lost.
    chosen = (np.arange(n), outlier)
    size = np.where(exact[chosen] == 0, 1, np.abs(exact[chosen]))
    more = bf16(np.copysign(size * (1 + np.abs(RNG.standard_normal(n))), exact[chosen]))
    outliers = np.zeros_like(exact)
    outliers[chosen] = wide(more)
    exact += outliers
    q = q.astype(np.uint8).reshape(n, -1)
    q[:, k:] = RNG.integers(0, 256, q[:, k:].shape)  # padding is not to matter
    at = np.array(places(q.shape[1]) if spread else range(q.shape[1]))
    blocks = q[:, at].reshape(n, -1, 2, 32)  # a byte holds what lies in places i and 32 + i
    high = (blocks[:, :, 0] >> 4) | (blocks[:, :, 1] & 0xF0)
    last = np.stack([at.argsort()[outlier].astype(np.uint16), more, row_scales], axis=1)
    parts = [high.reshape(n, -1), steps_of_groups, last.view(np.uint8)]
    coarse = np.concatenate(parts, axis=1)
    coarse = np.pad(coarse, ((0, 0), (0, -coarse.shape[1] % 4)))
    return coarse, low_plane(t, q[:, at]), exact, outliers


def low_plane(t: str, q: Array) -> Array:
    """What lies below the high nibbles of bytes (rows, places): 4, 2, 1 or no bits of each."""
    bits = QUANTIZED[t] - 4
    if bits == 0:
        return q[:, :0]
    fields = (q & 15).reshape(len(q), -1, 8 // bits, 8 * bits) >> 4 - bits
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(fields << shifts, axis=2).reshape(len(q), -1)


def places(width: int) -> list[int]:
    """The weight in each place of a spread row: of a chunk, the first piece of each group, then the
    second of each, .."""
    order: list[int] = []
    while len(order) < width:
        first = len(order)
        blocks = next(size for size in (8, 4, 2, 1) if 64 * size <= width - first)
        piece = 32 // blocks
        for start in range(0, 32, piece):
            for group in range(first, first + 64 * blocks, 32):
                order += range(group + start, group + start + piece)
    return order


def sheets(*parts_of: list[Array]) -> Array:
    """Rows of parts side by side, sheet after sheet, each padded to 64; then what is no number."""
    flat = [np.concatenate(parts, axis=1).ravel() for parts in parts_of]
    padded = [np.pad(part, (0, -part.size % 64)) for part in flat]
    return np.concatenate([*padded, np.full(256, 0xFF, np.uint8)])


def unpacked(x: Array) -> Array:
    """What packed activations mean, (K,) float64: groups of 32 in 15 bits, each with its scale."""
    groups = np.pad(x, (0, -len(x) % 32)).reshape(-1, 32).astype(np.float32)
    scales = np.abs(groups).max(axis=1, keepdims=True) / np.float32(127 * 128)
    q = np.rint(groups / np.where(scales == 0, np.float32(1), scales))
    return (wide(scales) * q).ravel()[: len(x)]


def decode_input(lib: ctypes.CDLL, t: str, x: Array) -> tuple[Array, Array]:
    """What a decode kernel over `t` reads for the activations x, and what it means in float64."""
    if t not in QUANTIZED:
        return x, wide(x)
    packed = Output(len(x) + -len(x) % 64)
    call(getattr(lib, f"pack_input_{len(x)}"), packed.data, x)
    packed.check()
    return packed.data, unpacked(x)


def tile_input(lib: ctypes.CDLL, t: str, x: Array) -> Array:
    """What the rows of x (m, K) mean to a prefill kernel over `t`, in float64. They are packed
    where the processor multiplies bytes fast."""
    if t in QUANTIZED and lib.prefill_multiplies_integers():
        return np.stack([unpacked(row) for row in x])
    return wide(x)


class Output:
    """Room for a result, sentinels on both sides; `array` checks them."""

    def __init__(self, *shape: int) -> None:
        self._shape = shape
        self._size = math.prod(shape)
        self._room = np.full(self._size + 2 * PAD, SENTINEL, np.float32)
        self.data = self._room[PAD : PAD + self._size]

    def check(self) -> None:
        assert (self._room[:PAD] == SENTINEL).all(), "wrote before the output"
        assert (self._room[PAD + self._size :] == SENTINEL).all(), "wrote past the output"

    @property
    def array(self) -> Array:
        self.check()
        return self.data.reshape(self._shape).astype(np.float64)


def assert_close(got: Array, want: Array, bound: Array | float) -> None:
    error = np.abs(got - want)
    assert np.isfinite(got).all()
    assert (error <= bound).all(), f"error {error.max():.3g}, {(error / bound).max():.3g} x bound"


def dot_bound(terms: int, magnitude: Array) -> Array:
    """Rounding of a sum of products: each partial sum adds terms / 4 of them at most."""
    return (terms / 4 + 8) * EPS * magnitude + 1e-30


# Elementary functions


def row(lib: ctypes.CDLL, name: str, x: Array) -> Array:
    y = Output(x.size)
    call(getattr(lib, f"row_{name}"), y.data, f32(x), x.size)
    return y.array


def test_exp_is_accurate_over_its_whole_range(lib: ctypes.CDLL) -> None:
    x = np.linspace(-87.3, 88.72, 65536).astype(np.float32)
    want = np.exp(x.astype(np.float64))
    assert (np.abs(row(lib, "exp", x) / want - 1) < 1e-6).all()


def test_exp_at_the_edges(lib: ctypes.CDLL) -> None:
    x = np.array([0, -0.0, -np.inf, np.inf, -200, 200, -90, 89] * 2, np.float32)
    want = [1, 1, 0, np.inf, 0, np.inf, 0, np.inf] * 2
    assert row(lib, "exp", x).tolist() == want
    assert np.isnan(row(lib, "exp", np.full(16, np.nan, np.float32))).all()


def test_tanh_sigmoid_erf(lib: ctypes.CDLL) -> None:
    x = np.concatenate([np.linspace(-100, 100, 4096), np.linspace(-4, 4, 4096)]).astype(np.float32)
    exact = x.astype(np.float64)
    assert_close(row(lib, "tanh", x), np.tanh(exact), 1e-6 * np.abs(np.tanh(exact)) + 1e-30)
    assert_close(row(lib, "sigmoid", x), 1 / (1 + np.exp(-exact)), 1e-6)
    assert_close(row(lib, "erf", x), np.vectorize(math.erf)(exact), 1e-6)


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _gelu_erf(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


ACTS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_erf": _gelu_erf,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "identity": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ACTS)
def test_activations(lib: ctypes.CDLL, name: str) -> None:
    x = f32(np.linspace(-12, 12, 67))
    y = Output(67)
    call(getattr(lib, f"act_{name}"), y.data, x)
    want = ACTS[name](wide(x))
    assert_close(y.array, want, 1e-6 * (np.abs(x) + np.abs(want)))
    up, gated = f32(RNG.standard_normal(67)), Output(67)
    call(getattr(lib, f"gate_{name}"), gated.data, x, up)
    assert gated.array.tolist() == (y.data * up).tolist()


def test_bf16_stores_round_to_nearest_even(lib: ctypes.CDLL) -> None:
    x = RNG.standard_normal(67).astype(np.float32)
    # two ties (to even: down, up), an infinity, the largest float (rounds to infinity), a NaN
    x.view(np.uint32)[:5] = [0x3F808000, 0x3F818000, 0x7F800000, 0x7F7FFFFF, 0x7F800001]
    room = np.full(67 + PAD, 0xABCD, np.uint16)
    call(lib.round_trip_67, room, f32(x))
    assert room[:4].tolist() == [0x3F80, 0x3F82, 0x7F80, 0x7F80]
    assert np.isnan(wide(room[4:5])).all()
    assert (room[5:67] == bf16(x)[5:]).all()
    assert (room[67:] == 0xABCD).all()


# Matrices


LINEARS = [
    ("f32", 7),
    ("f32", 1601),
    ("bf16", 64),
    ("bf16", 577),
    ("int8", 1),
    ("int8", 100),
    ("int8", 576),
    ("int8", 927),
    ("int6", 65),
    ("int6", 576),
    ("int5", 65),
    ("int5", 576),
    ("int4", 31),
    ("int4", 65),
    ("int4", 576),
]
linear_cases = pytest.mark.parametrize(("t", "k"), LINEARS)


def product_bound(t: str, w: Array, x: Array) -> Array:
    """Rounding of w @ x. What stands for unknown bits is summed apart: at most an
    eighth of its scale's largest."""
    w, x = np.abs(w), np.abs(x)
    if t in ("int6", "int5", "int4"):
        groups = np.pad(w, ((0, 0), (0, -w.shape[1] % 32))).reshape(len(w), -1, 32)
        w = w + np.repeat(groups.max(axis=2), 32, axis=1)[:, : w.shape[1]] / 8
    return dot_bound(w.shape[1], w @ x)


@linear_cases
@pytest.mark.parametrize("bias", [False, True])
def test_linear_rows(lib: ctypes.CDLL, t: str, k: int, bias: bool) -> None:
    n = 13
    w = weights(t, RNG.standard_normal((n, k)))
    b = f32(RNG.standard_normal(n)) if bias else None
    x, exact = decode_input(lib, t, f32(RNG.standard_normal(k)))
    y = Output(n)
    for n0, n1 in [(0, 6), (6, 6), (6, 13)]:
        kernel = getattr(lib, f"linear_rows_{t}_{k}")
        call(kernel, y.data, x, w.stored, w.rows, b, n0, n1)
    added = wide(b) if b is not None else np.zeros(n)
    bound = product_bound(t, w.exact, exact) + dot_bound(0, np.abs(added))
    assert_close(y.array, w.exact @ exact + added, bound)


def test_linear_rows_leaves_other_rows_alone(lib: ctypes.CDLL) -> None:
    y = Output(13)
    w, x = f32(RNG.standard_normal((13, 7))), f32(RNG.standard_normal(7))
    call(lib.linear_rows_f32_7, y.data, x, w, 13, None, 3, 10)
    assert (y.data[:3] == SENTINEL).all() and (y.data[10:] == SENTINEL).all()


@linear_cases
def test_a_matrix_from_a_row_on(lib: ctypes.CDLL, t: str, k: int) -> None:
    w = weights(t, RNG.standard_normal((13, k)))
    x, _ = decode_input(lib, t, f32(RNG.standard_normal(k)))
    whole, part = Output(13), Output(4)
    call(getattr(lib, f"linear_rows_{t}_{k}"), whole.data, x, w.stored, w.rows, None, 0, 13)
    call(getattr(lib, f"linear_rows_from_{t}_{k}"), part.data, x, w.stored, w.rows, 4, 4)
    assert (part.array == whole.array[4:8]).all()


@linear_cases
@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 13, 33, 65])
def test_linear_tile(lib: ctypes.CDLL, t: str, k: int, m: int) -> None:
    n, ldx = 45, k + 3
    w, b = weights(t, RNG.standard_normal((n, k))), f32(RNG.standard_normal(n))
    x = f32(RNG.standard_normal((m, ldx)))
    x[:, k:] = np.nan
    y = Output(m, n)
    for n0, n1 in [(0, 10), (10, 45)]:
        kernel = getattr(lib, f"linear_tile_{t}_{k}")
        call(kernel, y.data, n, x, ldx, w.stored, w.rows, b, m, n0, n1)
    exact, rows = wide(x[:, :k]), tile_input(lib, t, x[:, :k])
    want = rows @ (w.exact - w.outliers).T + exact @ (0 * w.exact + w.outliers).T + wide(b)
    bound = product_bound(t, w.exact, exact.T).T + dot_bound(0, np.abs(wide(b)))
    assert_close(y.array, want, bound)


@linear_cases
def test_rows_are_widened_exactly(lib: ctypes.CDLL, t: str, k: int) -> None:
    """Of quantised ones that is: the planes recombine to the weight."""
    w = weights(t, RNG.standard_normal((5, k)))
    for i in (0, 4):
        y = Output(k)
        call(getattr(lib, f"embed_row_{t}_{k}"), y.data, w.stored, w.rows, i)
        assert (y.array == f32(w.exact[i])).all()


LEVELS = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 1 / 127, 0.5, 1.0]), min_size=1, max_size=70)


@pytest.mark.parametrize("t", QUANTIZED)
@settings(max_examples=50, deadline=None)
@given(w=LEVELS, x=LEVELS)
@example(w=[1.0], x=[1.0])
@example(w=[-1.0], x=[-1.0])
@example(w=[-1.0], x=[1.0])
def test_extreme_products_neither_overflow_nor_saturate(
    lib: ctypes.CDLL, t: str, w: list[float], x: list[float]
) -> None:
    """Levels repeated along the row."""
    row = weights(t, np.resize(w, 576)[None])
    packed, exact = decode_input(lib, t, f32(np.resize(x, 576)))
    y = Output(1)
    call(getattr(lib, f"linear_rows_{t}_576"), y.data, packed, row.stored, 1, None, 0, 1)
    assert_close(y.array, row.exact @ exact, product_bound(t, row.exact, exact))


@pytest.mark.parametrize("k", [1, 31, 100, 576])
def test_activations_that_are_all_alike(lib: ctypes.CDLL, k: int) -> None:
    """Zeros, and values so small that their scale is 0, give 0; others are met exactly."""
    t = "int4" if k == 31 else "int8"
    w = weights(t, RNG.standard_normal((3, k)))
    for value in (0.0, 1e-45, 1.0, -127.0):
        x, _ = decode_input(lib, t, f32(np.full(k, value)))
        y = Output(3)
        call(getattr(lib, f"linear_rows_{t}_{k}"), y.data, x, w.stored, w.rows, None, 0, 3)
        seen = np.full(k, value if abs(value) > 1e-40 else 0.0)
        assert_close(y.array, w.exact @ seen, product_bound(t, w.exact, seen))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_no_numbers_give_none(lib: ctypes.CDLL, value: float) -> None:
    for t in QUANTIZED:
        w, x = weights(t, RNG.standard_normal((3, 576))), f32(RNG.standard_normal(576))
        x[100] = value
        packed, y = Output(576), Output(3)
        call(lib.pack_input_576, packed.data, x)
        call(
            getattr(lib, f"linear_rows_{t}_576"), y.data, packed.data, w.stored, w.rows, None, 0, 3
        )
        assert not np.isfinite(y.array).any()


@pytest.mark.parametrize(
    ("t", "k", "n"),
    [
        ("f32", 7, 96),
        ("f32", 130, 37),
        ("bf16", 64, 105),
        ("int8", 70, 105),
        ("int6", 70, 105),
        ("int5", 70, 105),
        ("int4", 31, 96),
    ],
)
@pytest.mark.parametrize("m", [1, 5, 65])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_columns(lib: ctypes.CDLL, t: str, k: int, n: int, m: int, bias: bool) -> None:
    ldx = k + 3
    w, b = RNG.standard_normal((n, k)), f32(RNG.standard_normal(n)) if bias else None
    columns, x = weights(t, w.T, spread=False), f32(RNG.standard_normal((m, ldx)))
    x[:, k:] = np.nan
    y = Output(m, n)
    for n0, n1 in [(0, 16), (16, 16), (16, n)]:
        kernel = getattr(lib, f"linear_columns_{t}_{k}")
        call(kernel, y.data, n, x, ldx, columns.stored, b, m, n0, n1)
    rows, added = wide(x[:, :k]), 0 if b is None else wide(b)
    bound = dot_bound(4 * k, np.abs(rows) @ np.abs(columns.exact) + np.abs(added))
    assert_close(y.array, rows @ columns.exact + added, bound)


BLOCKS = [
    ("f32", 10, 6, 37),
    ("bf16", 64, 9, 96),
    ("bf16", 7, 4, 33),
    ("bf16", 12, 5, 64),
    ("int8", 9, 5, 64),
    ("int4", 12, 5, 65),
]
"""T, the size of a block, how many, and the other side."""
blocks_cases = pytest.mark.parametrize(("t", "size", "blocks", "other"), BLOCKS)


def as_list(units: Iterable[int], room: int) -> Array:
    """A list of units in a buffer for `room` of them; what is not in it is no unit."""
    ordered = sorted(units)
    slots = np.full(1 + room, -1, np.int32)
    slots[: 1 + len(ordered)] = [len(ordered), *ordered]
    return slots


@blocks_cases
@pytest.mark.parametrize("side", ["rows", "columns"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_linear_of_listed_blocks(
    lib: ctypes.CDLL, t: str, size: int, blocks: int, other: int, side: str, data: st.DataObject
) -> None:
    chosen = data.draw(
        st.one_of(
            st.sets(st.integers(0, blocks - 1)),
            st.sampled_from([set(), {0}, {blocks - 1}, set(range(blocks))]),
        )
    )
    workers = data.draw(st.integers(1, 4))
    listed, units = as_list(chosen, blocks), size * blocks
    kept = np.isin(np.arange(units) // size, sorted(chosen))
    # Rows of the listed side, whichever it is. What is not listed is not to be read.
    w = RNG.standard_normal((units, other))
    w[~kept] = np.nan
    w = weights(t, w, spread=side == "rows")
    exact = np.where(kept[:, None], w.exact, 0)
    x = f32(RNG.standard_normal(other if side == "rows" else units))
    b = f32(RNG.standard_normal(units)) if data.draw(st.booleans()) else None
    bounds = even_bounds(size, workers, data.draw(st.sampled_from([1, 4, 16])))
    kernel = getattr(lib, f"linear_listed_{side}_{t}_{size}")
    if side == "rows":
        y = Output(units)
        x, seen = decode_input(lib, t, x)
        for first, end in itertools.pairwise(bounds):
            call(kernel, y.data, x, w.stored, b, listed, first, end)
        added = np.where(kept, 0 if b is None else wide(b), 0)
        bound = product_bound(t, exact, seen) + dot_bound(0, np.abs(added))
        assert_close(y.array, exact @ seen + added, bound)
        assert (y.array[~kept] == 0).all()
        return
    x[~kept] = np.nan
    factors = np.where(kept, wide(x), 0)
    for first, end in itertools.pairwise(bounds):
        out = Output(other)
        call(kernel, out.data, x, w.stored, listed, first, end)
        within = np.arange(units) % size
        part = factors * ((within >= first) & (within < end))
        bound = dot_bound(4 * units, np.abs(part) @ np.abs(exact))
        assert_close(out.array, part @ exact, bound)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_all_blocks_listed_equal_the_dense_rows_exactly(lib: ctypes.CDLL, workers: int) -> None:
    size, blocks, k = 12, 5, 64
    w, x = bf16(RNG.standard_normal((size * blocks, k))), f32(RNG.standard_normal(k))
    b, dense, y = f32(RNG.standard_normal(size * blocks)), Output(60), Output(60)
    call(lib.linear_rows_bf16_64, dense.data, x, w, size * blocks, b, 0, size * blocks)
    for first, end in itertools.pairwise(even_bounds(size, workers, ROWS_AT_ONCE)):
        every = as_list(range(blocks), blocks)
        call(lib.linear_listed_rows_bf16_12, y.data, x, w, b, every, first, end)
    assert np.array_equal(y.array, dense.array)


MLPS = [
    ("bf16", "relu", False, 70, 33),
    ("f32", "relu", True, 21, 18),
    ("bf16", "silu", True, 37, 45),
    ("f32", "gelu_tanh", True, 64, 130),
    ("f32", "relu2", False, 33, 64),
    ("bf16", "gelu_erf", False, 96, 20),
    ("int8", "relu", True, 70, 33),
    ("int8", "silu", True, 65, 100),
    ("int6", "silu", True, 65, 100),
    ("int4", "relu", False, 100, 65),
]


def packed_neurons(t: str, parts: list[Array]) -> tuple[Array, list[Array]]:
    """(gate,) up and down packed by neuron, and what each of them means."""
    if t in QUANTIZED:
        orders = [True] * (len(parts) - 1) + [False]
        given = [planes(t, p, spread)[:3] for p, spread in zip(parts, orders, strict=True)]
        high, low, exact = map(list, zip(*given, strict=True))
        return sheets(high[:-1], high[-1:], low), exact
    align = 64 // STORE[t](np.zeros(1)).itemsize
    padded = [np.pad(p, ((0, 0), (0, -p.shape[1] % align))) for p in parts]
    return STORE[t](np.concatenate(padded, axis=1)), [wide(STORE[t](p)) for p in parts]


class Mlp:
    """Random weights of an MLP, packed by neuron, and what they compute."""

    def __init__(self, t: str, act: str, gated: bool, k: int, d: int, n: int, bias: bool) -> None:
        self._act, self._gated = act, gated
        self.gate_b = f32(RNG.standard_normal(n)) if bias and gated else None
        self.up_b = f32(RNG.standard_normal(n)) if bias else None
        sizes = [k, k, d] if gated else [k, d]
        parts = [RNG.standard_normal((n, size)) / math.sqrt(size) for size in sizes]
        self.packed, exact = packed_neurons(t, parts)
        self.count = n
        self._gate: Array | None = exact[0] if gated else None
        self._up: Array = exact[-2]
        self._down: Array = exact[-1]

    def gates(self, x: Array) -> Array:
        """The activations; what is not gated has no other values."""
        if self._gate is None:
            return self.neurons(x)
        gate = x @ self._gate.T + (0 if self.gate_b is None else wide(self.gate_b))
        return ACTS[self._act](gate)

    def neurons(self, x: Array) -> Array:
        up = x @ self._up.T + (0 if self.up_b is None else wide(self.up_b))
        if self._gate is None:
            return ACTS[self._act](up)
        return self.gates(x) * up

    def check(self, got: Array, x: Array, part: slice | Array, rounding: float = 1e-5) -> None:
        a, down = self.neurons(x)[..., part], self._down[part]
        # each a_n carries a few rounding errors of sums near 1; the sum over n adds its own
        assert_close(got, a @ down, rounding * ((np.abs(a) + 1) @ np.abs(down)) + 1e-30)


@pytest.mark.parametrize(("t", "act", "gated", "k", "d"), MLPS)
@pytest.mark.parametrize("bias", [False, True])
def test_mlp_neurons(
    lib: ctypes.CDLL, t: str, act: str, gated: bool, k: int, d: int, bias: bool
) -> None:
    mlp = Mlp(t, act, gated, k, d, 29, bias)
    x, exact = decode_input(lib, t, f32(RNG.standard_normal(k)))
    for n0, n1 in [(0, 29), (3, 14), (5, 6), (7, 7)]:
        out = Output(d)
        kernel = getattr(lib, f"mlp_neurons_{t}_{act}_{k}")
        call(kernel, out.data, x, mlp.packed, mlp.count, mlp.gate_b, mlp.up_b, n0, n1)
        mlp.check(out.array, exact, slice(n0, n1))


@pytest.mark.parametrize(("t", "act", "gated", "k", "d"), MLPS)
@pytest.mark.parametrize("m", [1, 7, 70])
def test_mlp_tile(lib: ctypes.CDLL, t: str, act: str, gated: bool, k: int, d: int, m: int) -> None:
    mlp = Mlp(t, act, gated, k, d, 101, True)
    x = f32(RNG.standard_normal((m, k)))
    for n0, n1 in [(0, 101), (3, 14), (7, 7)]:
        out = Output(m, d)
        kernel = getattr(lib, f"mlp_tile_{t}_{act}_{k}")
        call(kernel, out.data, d, x, k, mlp.packed, mlp.count, mlp.gate_b, mlp.up_b, m, n0, n1)
        # outliers are multiplied with activations that are not rounded to 15 bits
        mlp.check(out.array, tile_input(lib, t, x), slice(n0, n1), rounding=5e-5)


N_LISTED = 29


@pytest.mark.parametrize(("t", "act", "gated", "k", "d"), MLPS)
def test_mlp_values(lib: ctypes.CDLL, t: str, act: str, gated: bool, k: int, d: int) -> None:
    mlp = Mlp(t, act, gated, k, d, N_LISTED, True)
    x, exact = decode_input(lib, t, f32(RNG.standard_normal(k)))
    for name, want in (("values", mlp.neurons(exact)), ("gates", mlp.gates(exact))):
        y = Output(N_LISTED)
        for n0, n1 in [(0, 16), (16, 16), (16, N_LISTED)]:
            kernel = getattr(lib, f"mlp_{name}_{t}_{act}_{k}")
            call(kernel, y.data, x, mlp.packed, mlp.count, mlp.gate_b, mlp.up_b, n0, n1)
        assert_close(y.array, want, 1e-5 * (np.abs(want) + 1))


class Listed:
    """An MLP's neurons by list: shares of several workers, each computed alone."""

    def __init__(self, lib: ctypes.CDLL, t: str, act: str, gated: bool, k: int, d: int) -> None:
        self.lib, self.kernel, self.d = lib, f"{t}_{act}_{k}", d
        self.mlp = Mlp(t, act, gated, k, d, N_LISTED, True)
        self.x, self.exact = decode_input(lib, t, f32(RNG.standard_normal(k)))
        self.values = {
            "nothing": None,
            "gate": f32(self.mlp.gates(self.exact)),
            "value": f32(self.mlp.neurons(self.exact)),
        }

    def bounds(self, count: int, workers: int) -> list[int]:
        bounds = np.empty(workers + 1, np.int64)
        call(self.lib.listed_bounds, bounds, count, workers)
        return bounds.tolist()

    def part(self, known: str, chosen: Array, first: int, end: int) -> tuple[Output, int]:
        """The sum over a share of the list, and how many neurons were read to the end."""
        out, read = Output(self.d), np.full(1, -1)
        listed = np.full(len(chosen) + PAD, 1 << 20, np.int32)
        listed[: len(chosen)] = chosen
        mlp = self.mlp
        call(getattr(self.lib, f"mlp_listed_{known}_{self.kernel}"), out.data, read, self.x,
             mlp.packed, mlp.count, mlp.gate_b, mlp.up_b, listed, self.values[known], first,
             end)  # fmt: skip
        return out, int(read[0])

    def dense(self, first: int, end: int) -> Array:
        out, mlp = Output(self.d), self.mlp
        call(getattr(self.lib, f"mlp_neurons_{self.kernel}"), out.data, self.x, mlp.packed,
             mlp.count, mlp.gate_b, mlp.up_b, first, end)  # fmt: skip
        return out.data


@pytest.mark.parametrize("known", ["nothing", "gate", "value"])
@pytest.mark.parametrize(("t", "act", "gated", "k", "d"), MLPS)
@settings(max_examples=20, deadline=None)
@given(chosen=st.sets(st.integers(0, N_LISTED - 1)), workers=st.integers(1, 4))
@example(chosen=set(), workers=3)
@example(chosen={N_LISTED - 1}, workers=2)
@example(chosen=set(range(N_LISTED)), workers=3)
def test_mlp_listed(
    lib: ctypes.CDLL,
    t: str,
    act: str,
    gated: bool,
    k: int,
    d: int,
    known: str,
    chosen: set[int],
    workers: int,
) -> None:
    listed = Listed(lib, t, act, gated, k, d)
    indices, x = np.array(sorted(chosen), np.int64), listed.exact
    bounds = listed.bounds(len(indices), workers)
    assert bounds[0] == 0 and bounds[-1] == len(indices) and bounds == sorted(bounds)
    for first, end in itertools.pairwise(bounds):
        out, read = listed.part(known, indices, first, end)
        listed.mlp.check(out.array, x, indices[first:end])
        stops = known == "nothing" and act in ("relu", "relu2")
        gates = listed.mlp.gates(x)[indices[first:end]]
        assert read == (np.count_nonzero(gates) if stops else end - first)


@pytest.mark.parametrize(("t", "act", "gated", "k", "d"), MLPS)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_all_neurons_listed_equal_the_dense_kernel(
    lib: ctypes.CDLL, t: str, act: str, gated: bool, k: int, d: int, workers: int
) -> None:
    listed = Listed(lib, t, act, gated, k, d)
    bounds = listed.bounds(N_LISTED, workers)
    assert bounds == even_bounds(N_LISTED, workers, NEURONS_PER_BLOCK)
    for first, end in itertools.pairwise(bounds):
        out, _ = listed.part("nothing", np.arange(N_LISTED), first, end)
        dense = listed.dense(first, end)
        if t in QUANTIZED:  # outliers are added after the rows that are taken together
            assert np.abs(out.data - dense).max() <= 1e-6 * np.abs(dense).max(initial=1.0)
        else:
            assert np.array_equal(out.data, dense)


def test_a_list_longer_than_one_chunk(lib: ctypes.CDLL) -> None:
    mlp = Mlp("bf16", "relu", False, 70, 33, 700, True)
    x, indices = f32(RNG.standard_normal(70)), np.arange(0, 700, 2)
    out, read = Output(33), np.full(1, -1)
    call(lib.mlp_listed_nothing_bf16_relu_70, out.data, read, x, mlp.packed, 700, None,
         mlp.up_b, indices.astype(np.int32), None, 0, len(indices))  # fmt: skip
    mlp.check(out.array, wide(x), indices)
    assert read[0] == np.count_nonzero(mlp.neurons(wide(x))[indices])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("t", "act", "gated", "k"),
    [("f32", "relu", False, 31), ("bf16", "silu", True, 100), ("int4", "relu2", True, 64)],
)
def test_mlp_rows(lib: ctypes.CDLL, t: str, act: str, gated: bool, k: int, bias: bool) -> None:
    n, parts = N_LISTED, 2 if gated else 1
    rows = weights(t, RNG.standard_normal((parts * n, k)) / math.sqrt(k))
    x, exact = decode_input(lib, t, f32(RNG.standard_normal(k)))
    biases = [f32(RNG.standard_normal(n)) if bias else None for _ in range(parts)]
    first, *second = (
        rows.exact[i::parts] @ exact + (0 if b is None else wide(b)) for i, b in enumerate(biases)
    )
    want = ACTS[act](first) * (second[0] if gated else 1)
    y, gate_b = Output(n), biases[0] if gated else None
    for n0, n1 in [(0, 16), (16, 16), (16, n)]:
        kernel = getattr(lib, f"mlp_rows_{t}_{act}_{k}")
        call(kernel, y.data, x, rows.stored, n, gate_b, biases[-1], n0, n1)
    assert_close(y.array, want, 1e-5 * (np.abs(want) + 1))


COARSE = [("relu", True, 70, 33, 31), ("silu", True, 65, 100, 64), ("relu", False, 100, 65, 70)]


def high_meaning(planes: Array, k: int, spread: bool) -> Array:
    """What high planes (rows, bytes) say of rows of k."""
    blocks = -(-k // 64)
    nibbles = planes[:, : 32 * blocks].reshape(len(planes), blocks, 32)
    codes = np.stack([nibbles & 15, nibbles >> 4], 2).reshape(len(planes), -1)
    at = np.array(places(codes.shape[1]) if spread else range(codes.shape[1]))
    codes = codes[:, at.argsort()]
    steps, rest = np.split(planes[:, 32 * blocks :], [2 * blocks], axis=1)
    outlier, more, row_scale = np.ascontiguousarray(rest[:, :6]).view(np.uint16).T
    scales = steps * wide(row_scale)[:, None]
    values = np.repeat(scales, 32, axis=1) * (16.0 * codes - 120.5)
    values[np.arange(len(planes)), at[outlier]] += wide(more)
    return values[:, :k]


def high_part(x: Array) -> Array:
    """The 8 high bits of activations as pack_input rounds them to 15."""
    groups = np.pad(x, (0, -len(x) % 32)).reshape(-1, 32)
    scale = (np.abs(groups).max(1, keepdims=True) / np.float32(127 * 128)).astype(np.float32)
    codes = np.rint(groups / np.where(scale == 0, 1, scale))
    return (wide(scale) * 128 * ((codes + 64) // 128)).ravel()[: len(x)]


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize(("act", "gated", "k", "d", "rank"), COARSE)
def test_neurons_by_their_high_planes(
    lib: ctypes.CDLL, act: str, gated: bool, k: int, d: int, rank: int, corrected: bool
) -> None:
    n, parts = N_LISTED, 2 if gated else 1
    sizes = [k] * parts + [d]
    orders = [True] * parts + [False]
    given = [
        planes("int8", RNG.standard_normal((n, size)) / math.sqrt(size), spread)[:3]
        for size, spread in zip(sizes, orders, strict=True)
    ]
    high, low, _ = map(list, zip(*given, strict=True))
    packed = sheets(high[:-1], high[-1:], low)
    *rows, down = map(high_meaning, high, sizes, orders)
    factors = weights("int4", 0.2 * RNG.standard_normal((parts * n, rank)) / math.sqrt(rank))
    biases = [f32(RNG.standard_normal(n)) for _ in range(parts)]
    x, z = f32(RNG.standard_normal(k)), f32(RNG.standard_normal(rank))
    packed_x, packed_z = decode_input(lib, "int8", x)[0], decode_input(lib, "int4", z)[0]

    missing = factors.exact @ high_part(z) if corrected else np.zeros(parts * n)
    sums = [
        row @ high_part(x) + wide(bias) + missing[i::parts]
        for i, (row, bias) in enumerate(zip(rows, biases, strict=True))
    ]
    want = ACTS[act](sums[0]) * (sums[1] if gated else 1)
    y, out = Output(n), Output(d)
    gate_b, up_b = (biases[0] if gated else None), biases[-1]
    for n0, n1 in [(0, 16), (16, 16), (16, n)]:
        call(getattr(lib, f"mlp_coarse_{act}_{k}"), y.data, packed_x,
             packed_z if corrected else None, packed, factors.stored, n, gate_b, up_b, n0,
             n1)  # fmt: skip
    assert_close(y.array, want, 1e-5 * (np.abs(want) + 5))

    listed = np.array([0, 3, 4, 9, 17, 21, n - 1], np.int32)
    out.data[:] = 1.0
    call(getattr(lib, f"add_coarse_{act}_{k}"), out.data, packed, n, listed, y.data, 1, 7)
    chosen = listed[1:]
    added = 1 + y.array[chosen] @ down[chosen]
    assert_close(out.array, added, 1e-5 * (np.abs(y.array[chosen]) @ np.abs(down[chosen]) + 1))


# Selection

SELECTS = [(False, 9, 9, 9), (False, 77, 32, 7), (True, 77, 77, 30), (True, 64, 8, 0)]
SHARES = st.sampled_from([0.5, 0.1, 1e-2, 1e-3, 1e-5])
SCORES = st.one_of(
    st.floats(-4, 4, width=32), st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf])
)


def selected(
    lib: ctypes.CDLL, how: str, x: Array, scales: Array | None, magnitude: bool, *rest: float
) -> list[int]:
    out = Output(1 + len(x))
    kernel = getattr(lib, f"select_{how}_{str(magnitude).lower()}_{len(x)}")
    call(kernel, out.data, f32(x), scales, *rest)
    assert out.array.shape == (1 + len(x),)
    count, *indices = out.data.view(np.int32).tolist()
    return indices[:count]


def scored(x: Array, scales: Array | None, magnitude: bool) -> Array:
    x = np.abs(x) if magnitude else x
    return x if scales is None else x * scales


@pytest.mark.parametrize(("magnitude", "n", "group", "count"), SELECTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_select(
    lib: ctypes.CDLL, magnitude: bool, n: int, group: int, count: int, data: st.DataObject
) -> None:
    x = np.array(data.draw(st.lists(SCORES, min_size=n, max_size=n)), np.float32)
    scales = None
    if data.draw(st.booleans()):
        scales = f32(RNG.uniform(0.5, 2, n))
    scores = scored(x, scales, magnitude)

    threshold = float(data.draw(st.sampled_from([0.0, 1.0, -8.0, np.inf])))
    below = data.draw(st.sampled_from([0.5, 2.0, np.inf]))
    want = np.flatnonzero((scores > threshold) & (scores <= below)).tolist()
    assert selected(lib, "above", x, scales, magnitude, threshold, below) == want

    best: list[int] = []
    for first in range(0, n, group):
        part = scores[first : first + group]
        best += sorted((np.argsort(-part, kind="stable")[:count] + first).tolist())
    assert selected(lib, "best", x, scales, magnitude) == best


def test_what_is_no_number_is_selected_like_any_other(lib: ctypes.CDLL) -> None:
    """The list stays a list: as many as asked for, each one once."""
    x = np.full(77, np.nan, np.float32)
    x[5], x[50] = -np.nan, 1.0
    assert selected(lib, "above", x, None, False, 0.0, np.inf) == [50]
    best = selected(lib, "best", x, None, False)
    assert len(best) == 21 and best == sorted(set(best)) and set(best) <= set(range(77))


@pytest.mark.parametrize("levels", [5, 1000])
def test_the_best_of_many(lib: ctypes.CDLL, levels: int) -> None:
    x = f32(RNG.integers(-levels, levels, 3001) / levels)  # some, or most, equal others
    best = sorted(np.argsort(-x, kind="stable")[:100].tolist())
    assert selected(lib, "best", x, None, False) == best
    everything = np.full(3001, -np.inf, np.float32)
    assert selected(lib, "best", everything, None, False) == list(range(100))


@pytest.mark.parametrize(("n", "least"), [(9, 3), (77, 5), (3001, 100)])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.0, 1.0, 30.0]), share=SHARES)
def test_select_likely(
    lib: ctypes.CDLL, n: int, least: int, seed: int, spread: float, share: float
) -> None:
    """The best, and all that are above a share of the sum, however large the scores are."""
    random = np.random.default_rng(seed)
    x = f32(1000 * random.uniform(-1, 1) + spread * random.normal(size=n))
    wide = x.astype(np.float64) - x.max()
    limit = np.log(np.exp(wide).sum()) + np.log(share)
    assume(np.abs(wide - limit).min() > 2e-4)  # what is on the limit is for float32 to decide
    best = np.argsort(-x, kind="stable")[:least]
    want = sorted({*best.tolist(), *np.flatnonzero(wide > limit).tolist()})
    assert selected(lib, "likely", x, None, False, np.log(share)) == want


# The head


@pytest.mark.parametrize(("n", "k", "bits"), [(40, 24, 2), (48, 64, 1), (37, 330, 2), (37, 700, 1)])
def test_sketch(lib: ctypes.CDLL, n: int, k: int, bits: int) -> None:
    rows = rounded_sketch(torch.from_numpy(f32(RNG.standard_normal((n, k)))), bits)
    bias, x = f32(RNG.standard_normal(n)), f32(RNG.standard_normal(k + 1))
    sketch = packed_sketch(rows, torch.from_numpy(bias)).numpy()
    y = Output(n)
    for n0, n1 in [(0, 16), (16, 16), (16, n)]:
        call(getattr(lib, f"sketch_{n}_{k}_{bits}"), y.data, x, sketch, n0, n1)
    groups = [group for group, _ in sketches.groups(k, bits)]
    factors = wide(round_factors(torch.from_numpy(x[None, :-1].copy()), groups).numpy()[0])
    weights = wide(rows.values(k).numpy())
    size = np.abs(weights) @ np.abs(factors) + np.abs(bias) + abs(x[-1])
    assert_close(y.array, weights @ factors + bias + x[-1], 16 * EPS * (8 + size))


@pytest.mark.parametrize("k", [70, 700])
@pytest.mark.parametrize("workers", [1, 3])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_refined_scores(lib: ctypes.CDLL, k: int, workers: int, data: st.DataObject) -> None:
    """Of listed rows with their refinements' products, of the others plus the offset."""
    n = 80  # more than two turns, when most are listed
    _, rows = rounded_cascade(torch.from_numpy(f32(RNG.standard_normal((n, k)))))
    scores, x = f32(RNG.standard_normal(n)), f32(RNG.standard_normal(k + 1))
    listed = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    at = np.flatnonzero(listed).astype(np.int32)
    listing = np.concatenate([np.array([len(at)], np.int32), at])
    y, packed = Output(n), packed_refinement(rows).numpy()
    for worker in reversed(range(workers)):
        refine = getattr(lib, f"refine_listed_{n}_{k}")
        call(refine, y.data, x, packed, scores, 0.25, listing, worker, workers)
    factors = round_factors(torch.from_numpy(x[None, :-1].copy()), sketches.refined_groups(k))
    weights, factors = wide(rows.values(k).numpy()), wide(factors.numpy()[0])
    added = np.where(listed, weights @ factors, 0.25)
    size = np.abs(weights) @ np.abs(factors) + np.abs(scores)
    assert_close(y.array, scores + added, 16 * EPS * (8 + size))


@pytest.mark.parametrize(("t", "k"), [("f32", 7), ("int8", 100)])
@pytest.mark.parametrize("workers", [1, 2, 3])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_listed_head(lib: ctypes.CDLL, t: str, k: int, workers: int, data: st.DataObject) -> None:
    """Listed rows are what linear_rows gives, the others their scores plus the offset; workers
    share the row in any order, and each writes its own part alone."""
    n = 80  # more than two turns, when most are listed
    w = weights(t, RNG.standard_normal((n, k)))
    b, scores = f32(RNG.standard_normal(n)), f32(RNG.standard_normal(n))
    x, _ = decode_input(lib, t, f32(RNG.standard_normal(k)))
    exact = Output(n)
    call(getattr(lib, f"linear_rows_{t}_{k}"), exact.data, x, w.stored, w.rows, b, 0, n)
    listed = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    rows = np.flatnonzero(listed).tolist()
    table = np.array([len(rows), *rows], np.int32)
    parts = []
    for worker in range(workers):
        y = Output(n)
        kernel = getattr(lib, f"head_listed_{t}_{k}")
        call(kernel, y.data, x, w.stored, b, scores, 0.5, table, worker, workers)
        parts.append(y.data.copy())
    written = np.stack(parts) != SENTINEL
    assert (written.sum(0) == 1).all()
    want = scores + np.float32(0.5)
    want[rows] = exact.array[rows]
    assert (np.stack(parts).T[written.T] == want).all()


# Attention


class Attention:
    """A cache filled through kv_append, and attention over it in float64."""

    def __init__(self, lib: ctypes.CDLL, case: Case, ring: int) -> None:
        self._lib, (self._t, self.h, self._kvh, self._d, self._dv) = lib, case
        self._ring = ring
        kv = self._kvh * ring
        self._kc = STORE[self._t](np.full(kv * self._d, np.nan))
        self._vc = STORE[self._t](np.full(kv * self._dv, np.nan))
        self._keys: list[Array] = []
        self._values: list[Array] = []
        self._scale = 1.3 / math.sqrt(self._d)

    def append(self, count: int) -> None:
        for _ in range(count):
            k = f32(RNG.standard_normal((self._kvh, self._d)))
            v = f32(RNG.standard_normal((self._kvh, self._dv)))
            kernel = getattr(self._lib, f"append_{self._t}_{self.h}")
            call(kernel, self._kc, self._vc, k, v, len(self._keys), self._ring)
            self._keys.append(wide(STORE[self._t](k)))
            self._values.append(wide(STORE[self._t](v)))

    def queries(self, m: int) -> Array:
        return f32(RNG.standard_normal((m, self.h, self._d)) * 2)

    def reference(
        self,
        q: Array,
        pos: int,
        first: int,
        softcap: float,
        slopes: Array | None,
        sinks: Array | None,
    ) -> Array:
        group = self.h // self._kvh
        out = np.empty((self.h, self._dv))
        for h in range(self.h):
            k = np.stack([x[h // group] for x in self._keys[first : pos + 1]])
            v = np.stack([x[h // group] for x in self._values[first : pos + 1]])
            s = np.float64(np.float32(self._scale)) * (k @ wide(q[h]))
            if softcap:
                s = softcap * np.tanh(s / softcap)
            if slopes is not None:
                s = s + wide(slopes)[h] * (np.arange(first, pos + 1) - pos)
            e = np.exp(s)
            out[h] = e @ v / (e.sum() + (0 if sinks is None else np.exp(wide(sinks)[h])))
        return out

    def decode(
        self,
        q: Array,
        bounds: list[int],
        softcap: float = 0.0,
        slopes: Array | None = None,
        sinks: Array | None = None,
    ) -> None:
        pos = bounds[-1] - 1
        out = Output(self.h, self._dv)
        parts = np.full(3 * self.h * (-(-self._dv // 16) * 16 + 16), np.nan, np.float32)
        kernel = getattr(self._lib, f"decode_{self._t}_{self.h}")
        limits = np.array(bounds, np.int64)
        call(kernel, out.data, parts, q, self._kc, self._vc, limits, self._ring, self._scale,
             softcap, slopes, sinks, pos)  # fmt: skip
        want = self.reference(q, pos, bounds[0], softcap, slopes, sinks)
        assert_close(out.array, want, 2e-5)

    def decode_listed(
        self, q: Array, bounds: list[int], heads: set[int], sinks: Array | None
    ) -> None:
        """Heads that are not listed give 0, and a group without a listed one is not read."""
        pos, group = bounds[-1] - 1, self.h // self._kvh
        read = sorted({h // group for h in heads})
        unread = np.isin(np.arange(self._kvh), read, invert=True)
        caches = [c.reshape(self._kvh, -1).copy() for c in (self._kc, self._vc)]
        for cache in caches:
            cache[unread] = STORE[self._t](np.full(1, np.nan))[0]
        q = q.copy()
        q[np.repeat(unread, group)] = np.nan
        out, groups = Output(self.h, self._dv), np.full(3, -1)
        parts = np.full(3 * self.h * (-(-self._dv // 16) * 16 + 16), np.nan, np.float32)
        kernel = getattr(self._lib, f"decode_listed_{self._t}_{self.h}")
        limits, listed = np.array(bounds, np.int64), as_list(heads, self.h)
        call(kernel, out.data, groups, parts, listed, q, *caches, limits, self._ring, self._scale,
             0.0, None, sinks, pos)  # fmt: skip
        want = self.reference(q, pos, bounds[0], 0.0, None, sinks)
        want[[h not in heads for h in range(self.h)]] = 0
        assert_close(out.array, want, 2e-5)
        assert groups.tolist() == [len(read)] * 3

    def prefill(
        self,
        m: int,
        window: int = 0,
        chunk: int = 0,
        softcap: float = 0.0,
        slopes: Array | None = None,
        sinks: Array | None = None,
    ) -> None:
        q, pos0 = self.queries(m), len(self._keys) - m
        out = Output(m, self.h * self._dv)
        kernel = getattr(self._lib, f"prefill_{self._t}_{self.h}")
        call(kernel, out.data, self.h * self._dv, q, self.h * self._d, self._kc, self._vc, pos0, m,
             self._ring, window, chunk, self._scale, softcap, slopes, sinks)  # fmt: skip
        got = out.array.reshape(m, self.h, self._dv)
        for i in range(m):
            p = pos0 + i
            first = max(0, p - window + 1 if window else 0, p // chunk * chunk if chunk else 0)
            # weights sum to 1 and values are near 1: the error is that of scores up to about 15
            assert_close(got[i], self.reference(q[i], p, first, softcap, slopes, sinks), 2e-5)


CASES = [("f32", 2, 2, 20, 12), ("bf16", 9, 3, 64, 64), ("f32", 8, 1, 16, 33)]
attention_cases = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}/{c[2]}")


@attention_cases
@pytest.mark.parametrize("extra", ["plain", "softcap", "alibi", "sinks", "all"])
def test_attention_scores(lib: ctypes.CDLL, case: Case, extra: str) -> None:
    h = case[1]
    softcap = 2.5 if extra in ("softcap", "all") else 0.0
    slopes = f32(2.0 ** -np.arange(1, h + 1)) if extra in ("alibi", "all") else None
    sinks = f32(RNG.standard_normal(h) + 1) if extra in ("sinks", "all") else None
    a = Attention(lib, case, ring=120)
    a.append(101)
    a.decode(a.queries(1)[0], [0, 40, 77, 101], softcap, slopes, sinks)
    a.prefill(71, 0, 0, softcap, slopes, sinks)


@attention_cases
def test_decode_with_empty_parts(lib: ctypes.CDLL, case: Case) -> None:
    a = Attention(lib, case, ring=50)
    a.append(1)
    a.decode(a.queries(1)[0], [0, 0, 1, 1])
    a.append(34)
    a.decode(a.queries(1)[0], [0, 0, 0, 35])
    a.decode(a.queries(1)[0], [2, 35, 35, 35])


@attention_cases
def test_decode_over_a_wrapped_ring(lib: ctypes.CDLL, case: Case) -> None:
    a = Attention(lib, case, ring=48)
    a.append(48 * 2 + 20)
    last = 48 * 2 + 20
    a.decode(a.queries(1)[0], [last - 48, last - 30, last - 5, last])


@attention_cases
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_decode_of_listed_heads(lib: ctypes.CDLL, case: Case, data: st.DataObject) -> None:
    h = case[1]
    heads = data.draw(
        st.one_of(
            st.sets(st.integers(0, h - 1)),
            st.sampled_from([set(), {0}, {h - 1}, set(range(h))]),
        )
    )
    a = Attention(lib, case, ring=48)
    a.append(48 + 20)
    sinks = f32(RNG.standard_normal(h)) if data.draw(st.booleans()) else None
    for bounds in ([20, 40, 55, 68], [60, 60, 61, 68]):
        a.decode_listed(a.queries(1)[0], bounds, heads, sinks)


@attention_cases
@pytest.mark.parametrize(
    ("before", "m", "window", "chunk"),
    [(0, 1, 0, 0), (0, 65, 0, 0), (130, 7, 0, 0), (0, 90, 5, 0), (100, 30, 17, 0),
     (0, 1, 1, 0), (60, 40, 0, 16), (10, 80, 0, 7), (33, 50, 9, 12)],
)  # fmt: skip
def test_prefill_masks(
    lib: ctypes.CDLL, case: Case, before: int, m: int, window: int, chunk: int
) -> None:
    a = Attention(lib, case, ring=before + m)
    a.append(before + m)
    a.prefill(m, window, chunk)


@attention_cases
def test_prefill_over_a_wrapped_ring(lib: ctypes.CDLL, case: Case) -> None:
    window, m = 19, 40
    a = Attention(lib, case, ring=window + m - 1)
    a.append(90)
    a.prefill(m, window)
    a.append(m)
    a.prefill(m, window)


# Rows


@pytest.mark.parametrize("d", [3, 64, 577])
@pytest.mark.parametrize("weights", [False, True])
def test_norms(lib: ctypes.CDLL, d: int, weights: bool) -> None:
    x = f32(RNG.standard_normal(d) + 5)
    w, b = (f32(RNG.standard_normal(d)), f32(RNG.standard_normal(d))) if weights else (None, None)
    scale, shift = (wide(w), wide(b)) if w is not None and b is not None else (1.0, 0.0)
    e, eps = wide(x), 1e-5
    rms, layer = Output(d), Output(d)
    call(getattr(lib, f"rms_norm_{d}"), rms.data, x, w, eps)
    call(getattr(lib, f"layer_norm_{d}"), layer.data, x, w, b, eps)
    assert_close(rms.array, e / np.sqrt((e**2).mean() + eps) * scale, 1e-5)
    assert_close(layer.array, (e - e.mean()) / np.sqrt(e.var() + eps) * scale + shift, 2e-5)
    call(getattr(lib, f"layer_norm_{d}"), x, x, w, b, eps)  # in place
    assert (x == layer.data).all()


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize(("d", "r"), [(64, 64), (21, 10)])
def test_rope(lib: ctypes.CDLL, pairing: str, d: int, r: int) -> None:
    x, a, b = (f32(RNG.standard_normal(n)) for n in (d, r, r))
    partner = (np.arange(r) + r // 2) % r if pairing == "half" else np.arange(r) ^ 1
    want = wide(x)
    want[:r] = wide(a) * want[:r] + wide(b) * want[partner]
    y = Output(d)
    kernel = getattr(lib, f"rope_{pairing}_{d}_{r}")
    call(kernel, y.data, x, a, b)
    assert_close(y.array, want, 1e-6)
    call(kernel, x, x, a, b)  # in place
    assert (x == y.data).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_sum_partials(lib: ctypes.CDLL, workers: int) -> None:
    parts = f32(RNG.standard_normal((workers, 50)))
    bias, residual = f32(RNG.standard_normal(37)), f32(RNG.standard_normal(37))
    kernel = getattr(lib, f"sum_partials_{workers}")
    total = wide(parts)[:, :37].sum(0)
    y = Output(37)
    call(kernel, y.data, parts, 50, None, None)
    assert_close(y.array, total, 1e-6)
    call(kernel, y.data, parts, 50, bias, residual)
    assert_close(y.array, total + wide(bias) + wide(residual), 2e-6)
    y.data[:] = residual
    call(kernel, y.data, parts, 50, None, y.data)
    assert_close(y.array, total + wide(residual), 2e-6)


# The pool


class Workers:
    """A pool behind its C entry points."""

    def __init__(self, lib: ctypes.CDLL, workers: int) -> None:
        self._lib = lib
        lib.pool_open.restype = ctypes.c_void_p
        lib.pool_rounds.restype = ctypes.c_int64
        self._pool = ctypes.c_void_p(lib.pool_open(workers))

    def rounds(self, runs: int, barriers: int) -> int:
        return int(
            self._lib.pool_rounds(self._pool, ctypes.c_int64(runs), ctypes.c_int64(barriers))
        )

    def close(self) -> None:
        self._lib.pool_close(self._pool)


@pytest.mark.parametrize(
    ("workers", "runs", "barriers"), [(1, 3, 10), (2, 1, 5000), (2, 500, 2), (9, 3, 50), (9, 50, 0)]
)
def test_barriers_hold_every_worker(
    lib: ctypes.CDLL, workers: int, runs: int, barriers: int
) -> None:
    pool = Workers(lib, workers)
    assert pool.rounds(runs, barriers) == workers * runs * barriers
    pool.close()


def test_idle_workers_sleep(lib: ctypes.CDLL) -> None:
    pool = Workers(lib, 2)
    pool.rounds(1, 10)
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1
    assert pool.rounds(1, 10) == 20  # and wake up again
    pool.close()


def test_a_pool_can_be_closed_unused(lib: ctypes.CDLL) -> None:
    Workers(lib, 3).close()
