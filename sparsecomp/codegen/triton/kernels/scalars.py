"""Functions of floats that Triton's language lacks, exact to some units in the last place."""

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    # Near 0 the difference below would cancel.
    square = x * x
    near = x * (1 - square * (0.33333334 - square * (0.13333334 - square * 0.053968254)))
    small = tl.exp(-2 * tl.abs(x))
    far = (1 - small) / (1 + small)
    return tl.where(tl.abs(x) < 0.1, near, tl.where(x < 0, -far, far))


@triton.jit
def expm1(x):
    near = x * (1 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * 0.008333334))))
    return tl.where(tl.abs(x) < 0.1, near, tl.exp(x) - 1)


@triton.jit
def log1p(x):
    near = x * (1 - x * (0.5 - x * (0.33333334 - x * (0.25 - x * (0.2 - x * 0.16666667)))))
    return tl.where(tl.abs(x) < 0.05, near, tl.log(1 + x))


@triton.jit
def trunc(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))


@triton.jit
def nearest(x):
    """The nearest whole number, of two the even one."""
    floor = tl.floor(x)
    above = x - floor
    odd = floor - 2 * tl.floor(floor * 0.5)
    up = (above > 0.5) | ((above == 0.5) & (odd == 1))
    return floor + up.to(tl.float32)


@triton.jit
def power(x, y):
    """x to the power of y; of a negative x for whole y alone."""
    size = tl.where(y == 0, 1.0, tl.exp2(y * tl.log2(tl.abs(x))))
    negative = (x < 0) | (1 / x < 0)  # -0 too
    odd = y - 2 * tl.floor(y * 0.5) == 1
    signed = tl.where(negative & odd, -size, size)
    return tl.where((x < 0) & (tl.floor(y) != y), float("nan"), signed)


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def gelu_erf(x):
    return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))


@triton.jit
def gelu_tanh(x):
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
