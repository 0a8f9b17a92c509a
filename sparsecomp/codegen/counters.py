"""What a program counts while it decodes, and where: read off its exec IR.

Emission and the manifest both ask here, so that they agree; so do the programs of an artifact for
different machines, which have their kernels in different orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import shape_of
from sparsecomp.runtime.artifact import OWN_COUNTERS

DECODE = "decode"
"""The program that counts. A prompt is read whole: there is nothing to count in @prefill."""


@dataclass(frozen=True)
class Counters:
    """`chosen`: the counter of each selection's units. `further`: of the neurons of each sparse MLP
    that are read beyond their first product. `trace`: where each selection's list goes in a
    trace, and `trace_slots` the size of that, in 4-byte slots. `count`: counters in all.
    """

    chosen: Mapping[exec.Select, int]
    further: Mapping[exec.SparseMlp, int]
    trace: Mapping[exec.Select, int]
    count: int
    trace_slots: int


def counters(module: ModuleOp) -> Counters:
    """The counters of a module's @decode, by the modules of the model that they belong to."""
    chosen: dict[exec.Select, int] = {}
    further: dict[exec.SparseMlp, int] = {}
    trace: dict[exec.Select, int] = {}
    count, slots = OWN_COUNTERS, 0
    for program in module.ops:
        if not isinstance(program, exec.Program) or program.sym_name.data != DECODE:
            continue
        for op in sorted(program.body.walk(), key=_module):
            if isinstance(op, exec.Select):
                chosen[op], trace[op] = count, slots
                slots += shape_of(op.out)[-1]
            elif isinstance(op, exec.SparseMlp) and op.values is None:
                further[op] = count
            else:
                continue
            count += 1
    return Counters(chosen, further, trace, count, slots)


def _module(op: Operation) -> str:
    return getattr(op.attributes.get("module"), "data", "")
