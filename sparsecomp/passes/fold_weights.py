"""fold-weights: what depends on weights alone is computed once, at compile time.

Every such value that the program reads becomes a derived weight: `1 + w`, a transposed matrix, a
concatenation, whatever it is.
"""

from __future__ import annotations

from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten

from .base import Pass, PassContext, functions
from .kinds import Kind, classify, enters_program, op_kind
from .outline import Outliner, weight_name


class FoldWeights(Pass):
    name = "fold-weights"
    help = "compute once what depends on weights alone"

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        outliner = Outliner(module)
        for func in functions(module):
            kinds = classify(func)
            for op in list(func.body.block.ops):
                if isinstance(op, aten.Get) or op_kind(op, kinds) is not Kind.WEIGHT:
                    continue
                for result in op.results:
                    # Only the last op of a chain, the one that the program reads.
                    if not enters_program(result, kinds):
                        continue
                    name, type = outliner.outline(result, weight_name(result, "folded"))
                    get = Builder(InsertPoint.before(op)).insert(aten.Get(name, type))
                    get.result.name_hint = result.name_hint
                    result.replace_all_uses_with(get.result)
                    kinds[get.result] = Kind.WEIGHT
        region_dce(module.body)
