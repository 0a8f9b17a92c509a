"""fuse-linears: for a GPU, linears that read the same row are one launch, side by side.

Queries, keys and values are, and predictors' first matrices: each alone is over almost as soon as
it is launched.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue

from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import buffer_of, shape_of

from .base import Form, Pass, PassContext
from .forms import programs
from .schedule_lookahead import rebuild
from .schedule_streams import as_early_as_possible, beside, dependencies
from .streams import writes
from .tasks import kernels, predictions

Linear = exec.Linear | exec.SparseLinear


def together(program: exec.Program, graph: nx.DiGraph[exec.Kernel]) -> list[list[Linear]]:
    """The linears of a row that can be one launch.

    Those that run beside other work stay apart from those that do not: a list that is needed soon
    would wait for whole projections, or one that is needed late keep a layer from beginning.
    """
    side = beside(graph, predictions(program))
    writers = {buffer: op for op in graph for buffer in writes(op)}
    groups: dict[tuple[SSAValue, bool], list[Linear]] = {}
    for op in graph:
        if isinstance(op, Linear) and _reads_a_row(op) and not _waits(op, graph, writers):
            groups.setdefault((op.x, op in side), []).append(op)
    return [group for group in groups.values() if len(group) > 1]


def _reads_a_row(op: Linear) -> bool:
    """Whether it has one row, the factors of all its outputs."""
    if isinstance(op, exec.SparseLinear) and op.side.data is not spz.Side.OUTPUTS:
        return False
    return shape_of(op.x) == (1, exec.find_storage(op, op.weight).dims[1])


def _waits(
    op: Linear, graph: nx.DiGraph[exec.Kernel], writers: dict[Operation | int, exec.Kernel]
) -> bool:
    """Whether another thing that it reads comes later than its row: made of it, like the list of a
    prediction from the same row, or like what another linear of the row gives."""
    row, *others = (writers.get(b) for v in op.inputs if (b := buffer_of(v)) is not None)
    return row is None or any(other in nx.descendants(graph, row) for other in others)


def launch(kernels: Sequence[Operation]) -> exec.Launch:
    """A launch of these kernels, where the last of them was."""
    one = exec.Launch.create(regions=[Region(Block())])
    block = kernels[-1].parent_block()
    assert block is not None
    block.insert_op_after(one, kernels[-1])
    for op in kernels:
        op.detach()
        one.body.block.add_op(op)
    return one


def fuse(program: exec.Program) -> None:
    # In the order of schedule-streams, so that what it will have run beside other work is seen.
    graph = dependencies(as_early_as_possible(dependencies(kernels(program))))
    launches: dict[exec.Kernel, exec.Kernel] = {}
    for group in together(program, graph):
        launches |= dict.fromkeys(group, launch(group))
    if not launches:
        return
    place = {launches.get(op, op): i for i, op in reversed(list(enumerate(graph)))}
    graph = nx.relabel_nodes(graph, launches)
    order = list(nx.lexicographical_topological_sort(graph, key=place.__getitem__))
    rebuild(program.body.block, order, dict.fromkeys(order, 0))


class FuseLinears(Pass):
    name = "fuse-linears"
    help = "for a GPU: launch linears that read the same row at once"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            fuse(program)
