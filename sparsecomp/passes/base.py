"""What a pass is: a name, what it needs, what it leaves, and one rewrite of a module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol

import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects.exec import Kernel
from sparsecomp.errors import SparsecompError
from sparsecomp.options import Device, Dtype, Overlap
from sparsecomp.sparsity import Plan

Weights = Callable[[str], torch.Tensor]
Parts = Callable[[Kernel], int]
"""How many partial results, copies of its output, a kernel leaves on a GPU."""


class Evaluate(Protocol):
    """Values of a backward slice in torch fp32 (`sparsecomp.reference.evaluate`)."""

    def __call__(
        self,
        values: Sequence[SSAValue],
        bindings: Mapping[SSAValue, torch.Tensor],
        *,
        length: int,
        weights: Weights,
        positions: torch.Tensor | None = None,
    ) -> list[torch.Tensor]: ...


@dataclass(frozen=True)
class PassContext:
    """What passes may ask of the world around the module."""

    evaluate: Evaluate
    weights: Weights
    positions: int
    """Positions compiled for: the context of the artifact."""
    workers: int = 1
    device: Device = Device.CPU
    parts: Parts = lambda op: 1
    overlap: Overlap = field(default_factory=Overlap)
    dtype: Dtype = Dtype.F32
    plan: Plan | None = None
    """What may be made sparse; None: nothing."""
    wider: tuple[str, ...] = ()
    """Weights, or modules of weights, that are not to be quantised."""
    rank: int = 0
    """Whose share of the model this is, of `ranks`."""
    ranks: int = 1


def covers(name: str, weight: str) -> bool:
    """Whether `name` is a weight's, or that of a module it belongs to."""
    return weight == name or weight.startswith(f"{name}.")


class PassError(SparsecompError):
    """A pass cannot go on: names the op and the model's module."""

    def __init__(self, op: Operation, reason: str):
        self.op = op
        self.reason = reason
        super().__init__(f"{describe(op)}: {reason}")


def module_path(op: Operation) -> str:
    """The model's module that an op comes from (`model.layers.3.mlp`), or ''."""
    attribute = op.attributes.get("module")
    return getattr(attribute, "data", "")


def describe(op: Operation) -> str:
    path = module_path(op)
    return f"{op.name} in {path}" if path else op.name


class Pass(ABC):
    """One rewrite of a module.

    `requires` and `ensures` are checked around every run: a pass that is called out of order, or
    that leaves less than it says, fails with its own name.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    requires: ClassVar[tuple[Form, ...]] = ()
    ensures: ClassVar[tuple[Form, ...]] = ()

    def __call__(self, module: ModuleOp, ctx: PassContext) -> None:
        for form in self.requires:
            if (culprit := form.culprit(module)) is not None:
                raise SparsecompError(
                    f"pass {self.name} needs {form.value}, but {describe(culprit)} is not"
                )
        self.apply(module, ctx)
        for form in self.ensures:
            if (culprit := form.culprit(module)) is not None:
                raise PassError(culprit, form.refusal)

    @abstractmethod
    def apply(self, module: ModuleOp, ctx: PassContext) -> None: ...


class Form(Enum):
    """A property that a module has or an op breaks."""

    SYMBOLIC_WEIGHTS = "weights as symbols"
    ROWS = "values as rows of tokens"
    FULL_SEQUENCE = "one @forward over the whole sequence"
    DECODE = "the functions @prefill and @decode"
    KERNELS = "the programs @prefill and @decode"
    SCHEDULED = "kernels with workers"
    RACE_FREE = "kernels that wait for what others write"

    def culprit(self, module: ModuleOp) -> Operation | None:
        """The first op that breaks the property, or None."""
        from .forms import CHECKS

        return CHECKS[self](module)

    @property
    def refusal(self) -> str:
        return f"cannot be compiled: it does not become {self.value}"


def functions(module: ModuleOp) -> Iterator[FuncOp]:
    return (op for op in module.ops if isinstance(op, FuncOp))


def function(module: ModuleOp, name: str) -> FuncOp:
    for op in functions(module):
        if op.sym_name.data == name:
            return op
    raise SparsecompError(f"the module has no function @{name}")
