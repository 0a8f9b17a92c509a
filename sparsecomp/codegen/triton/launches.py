"""How the kernels of an exec.launch become one."""

from __future__ import annotations

from dataclasses import dataclass

from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError

from . import dense, sparse
from .beside import side_by_side
from .call import Call, Scope


@dataclass(frozen=True)
class Parts:
    """The kernels of a launch by what they are to it."""

    norm: exec.Norm | None
    """What all the others read is the norm of something."""
    bodies: tuple[exec.Kernel, ...]
    """Side by side: none reads what another writes."""
    selections: tuple[exec.Select, ...]
    """From the scores that the body leaves."""

    @staticmethod
    def of(op: exec.Launch) -> Parts:
        norms = [k for k in op.kernels if isinstance(k, exec.Norm)]
        selections = tuple(k for k in op.kernels if isinstance(k, exec.Select))
        bodies = tuple(k for k in op.kernels if not isinstance(k, exec.Norm | exec.Select))
        return Parts(norms[0] if norms else None, bodies, selections)


def launch(scope: Scope, op: exec.Launch) -> list[Call]:
    """Raises SparsecompError for kernels that cannot be one."""
    match op.kernels:
        case [exec.Append() as new, exec.Attend() as attend]:
            return dense.attend(scope, attend, new)
    parts = Parts.of(op)
    found = [(dense.CALLS | sparse.CALLS)[type(body)](scope, body) for body in parts.bodies]
    if parts.selections or not found:
        names = ", ".join(kernel.name for kernel in op.kernels)
        raise SparsecompError(
            f"a launch of {names}: there is no CUDA kernel that does them at once"
        )
    if len(found) == 1:
        return found[0]
    return [side_by_side([call for calls in found for call in calls])]
