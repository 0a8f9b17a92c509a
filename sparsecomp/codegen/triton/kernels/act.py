"""Activation functions of MLPs."""

import triton
import triton.language as tl

from .scalars import gelu_erf, gelu_tanh, sigmoid, tanh


@triton.jit
def activate(x, ACT: tl.constexpr):
    if ACT == "relu":
        return tl.maximum(x, 0.0)
    elif ACT == "relu2":
        positive = tl.maximum(x, 0.0)
        return positive * positive
    elif ACT == "silu":
        return x * sigmoid(x)
    elif ACT == "gelu_erf":
        return gelu_erf(x)
    elif ACT == "gelu_tanh":
        return gelu_tanh(x)
    elif ACT == "quick_gelu":
        return x * sigmoid(1.702 * x)
    elif ACT == "sigmoid":
        return sigmoid(x)
    elif ACT == "tanh":
        return tanh(x)
    else:
        tl.static_assert(ACT == "identity")
        return x
