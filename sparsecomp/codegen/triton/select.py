"""Which kernels an op of exec is, and how they are configured: the way in."""

from __future__ import annotations

from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError

from . import launches
from .call import Call, Kernel, Keys, Operand, Scope, State, Value, Values, Weight
from .parts import parts

__all__ = [
    "Call", "Kernel", "Keys", "Operand", "Scope", "State", "Value", "Values", "Weight",
    "calls", "parts",
]  # fmt: skip

CALLS = launches.CALLS | {exec.Launch: launches.launch}


def calls(op: exec.Kernel, scope: Scope) -> list[Call]:
    """The launches that do an op, in order. Raises SparsecompError when there is no kernel."""
    if type(op) not in CALLS:
        module = getattr(op.attributes.get("module"), "data", "")
        place = f" in {module}" if module else ""
        raise SparsecompError(
            f"{op.name}{place}: has no CUDA kernel; a program for the CPU would work"
        )
    return CALLS[type(op)](scope, op)
