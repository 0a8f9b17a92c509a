"""How the kernels of an exec.launch become one."""

from __future__ import annotations

from dataclasses import dataclass

from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError

from . import attention, dense, sparse
from .beside import side_by_side
from .call import Call, Scope
from .chosen import Selections
from .dense import scored_rows
from .sparse import scored_neurons

CALLS = attention.CALLS | dense.CALLS | sparse.CALLS


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
            return attention.attend(scope, attend, new)
    match Parts.of(op):
        case Parts(_, (exec.Linear() | exec.Neurons() as body,), selections) if selections:
            return [_scored(op, body, selections)]
        case Parts(_, [_, *_] as bodies, ()):
            found = [call for body in bodies for call in CALLS[type(body)](scope, body)]
            return found if len(bodies) == 1 else [side_by_side(found)]
    names = ", ".join(kernel.name for kernel in op.kernels)
    raise SparsecompError(f"a launch of {names}: there is no CUDA kernel that does them at once")


def _scored(
    op: exec.Launch, body: exec.Linear | exec.Neurons, selections: tuple[exec.Select, ...]
) -> Call:
    """A kernel that scores units and chooses by its scores."""
    chosen = Selections(selections, keep=body.out in op.outputs)
    if isinstance(body, exec.Neurons):
        _, inputs, *_ = exec.find_storage(body, body.weights).dims
        return scored_neurons(body, chosen, chosen.tile(inputs))
    _, inputs = exec.find_storage(body, body.weight).dims
    return scored_rows(body, chosen, chosen.tile(inputs))
