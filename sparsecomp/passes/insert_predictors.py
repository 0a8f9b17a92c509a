"""insert-predictors: before each block that is to be sparse, what chooses its units.

The block then keeps the chosen units and counts the others as 0. This is the plain meaning, which
calibration measures and which the fuse-sparse passes turn into work that is not done. Of a narrow
block nothing is chosen: it reads what calibration rounds in place of its weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    FloatAttr,
    IntegerAttr,
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f32,
    f64,
    i1,
    i64,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir import Block as IRBlock
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import aten, spz
from sparsecomp.errors import SparsecompError
from sparsecomp.sparsity import (
    FULL_BITS,
    Approximate,
    Choice,
    Cutoff,
    Exact,
    LowRank,
    Narrow,
    Nested,
    Selective,
    Sketch,
    kind_of,
)

from .base import Form, Pass, PassContext, PassError, functions
from .blocks import AttentionBlock, Block, HeadBlock, MlpBlock, blocks, source, weight_shapes
from .build import from_module, shape_of
from .narrow import has_long_rows, narrowed, refusal, rounded_name
from .outline import Outliner


def predictor_names(module: str) -> tuple[str, str, str]:
    """The weights of a block's low-rank predictor: down (rank, in), up (units, rank), bias."""
    return f"{module}.predictor.down", f"{module}.predictor.up", f"{module}.predictor.bias"


def correction_names(module: str) -> tuple[str, str]:
    """The weights of a nested MLP's correction: basis (rank, in), factors (parts neurons, rank)."""
    return f"{module}.correction.basis", f"{module}.correction.factors"


def approximation_names(module: str) -> tuple[str, str, str, str]:
    """The weights of an approximate MLP: basis (rank, in), gate and up (neurons, rank), and what is
    added to the first product, of gate, or of up where there is no gate: bias (neurons,)."""
    prefix = f"{module}.approximation"
    return f"{prefix}.basis", f"{prefix}.gate", f"{prefix}.up", f"{prefix}.bias"


class InsertPredictors(Pass):
    name = "insert-predictors"
    help = "put what chooses neurons and heads before the blocks that are to be sparse"
    requires = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for func in functions(module):
            found = blocks(func)
            for block in found:
                if isinstance(block, HeadBlock):
                    continue  # what chooses its rows gives logits too: sparsify-head
                choice = sparsity_of(block.op)
                if isinstance(choice, Narrow):  # nothing is chosen
                    _read_rounded(module, block, choice, ctx)
                elif choice is not None:
                    _Insertion(module, block, _source(block, found)).run(choice)


def _read_rounded(
    module: ModuleOp, block: MlpBlock | AttentionBlock, choice: Narrow, ctx: PassContext
) -> None:
    """Let all functions read what is rounded of a narrow block's weights, where its rows are long
    enough for that."""
    if (problem := refusal(block, choice, ctx.dtype, ctx.wider)) is not None:
        raise SparsecompError(f"{block.module}: {problem}")
    shapes = weight_shapes(module)
    if not has_long_rows(block, shapes):
        return
    for part in narrowed(block, choice):
        for name in part.weights if part.bits < FULL_BITS else ():
            rounded = rounded_name(name, part.bits)
            declare(module, rounded, TensorType(f32, shapes[name]))
            for func in functions(module):
                for op in func.body.block.ops:
                    _read_instead(op, SymbolRefAttr(name), SymbolRefAttr(rounded))
            _drop_unread(module, name)


def _read_instead(op: Operation, old: SymbolRefAttr, new: SymbolRefAttr) -> None:
    op.properties |= {name: new for name, value in op.properties.items() if value == old}


def _drop_unread(module: ModuleOp, weight: str) -> None:
    """The declaration of a weight that no op reads any more, not for a derived one either."""
    read = any(SymbolRefAttr(weight) in op.properties.values() for op in module.walk())
    for op in [] if read else list(module.ops):
        if isinstance(op, aten.Weight | aten.Derived) and op.sym_name.data == weight:
            op.detach()
            op.erase()


def sparsity_of(op: Operation) -> Choice | None:
    """How allocate-sparsity wants a block to be."""
    attribute = op.attributes.get("sparsity")
    return attribute.data if isinstance(attribute, spz.SparsityAttr) else None


def choices_in(module: ModuleOp) -> dict[str, Choice | None]:
    """What allocate-sparsity decided for each block of @decode; None: dense."""
    func = next(f for f in functions(module) if f.sym_name.data == "decode")
    return {block.module: sparsity_of(block.op) for block in blocks(func)}


def _source(block: Block, all_blocks: Sequence[Block]) -> SSAValue:
    """What a block's predictor reads: the input of a block of its kind, so many before it."""
    choice = sparsity_of(block.op)
    if not isinstance(choice, LowRank):
        return block.input
    return source(all_blocks, block, choice.lookahead).input


class _Insertion:
    def __init__(self, module: ModuleOp, block: Block, source: SSAValue):
        self.module = module
        self.block = block
        self.source = source
        # As early as the input is there: what runs beside it is for the schedule to decide.
        owner = source.owner
        point = (
            InsertPoint.at_start(owner) if isinstance(owner, IRBlock) else InsertPoint.after(owner)
        )
        self.builder = Builder(point)

    def run(self, choice: Selective) -> None:
        if isinstance(choice, LowRank):
            kept = [self._low_rank(choice)]
        elif isinstance(choice, Sketch):
            raise PassError(self.block.op, "cannot be sketched: a sketch is of the head")
        elif not isinstance(self.block, MlpBlock):
            kind = kind_of(choice)
            raise PassError(self.block.op, f"{kind} skips neurons; attention needs low_rank")
        elif isinstance(choice, Nested):
            kept = self._nested(choice, self.block)
        elif isinstance(choice, Approximate):
            kept = [self._approximate(choice, self.block)]
        else:
            kept = [self._cutoff(choice, self.block)]
        _keep(self.block.op, kept)

    def _low_rank(self, choice: LowRank) -> SSAValue:
        names = predictor_names(self.block.module)
        inputs, units = shape_of(self.source)[-1], self.block.units
        shapes = ([choice.rank, inputs], [units, choice.rank], [units])
        for name, shape in zip(names, shapes, strict=True):
            declare(self.module, name, TensorType(f32, shape))
        down, up, bias = map(SymbolRefAttr, names)
        predict = self._insert(
            spz.Predict,
            [self.source],
            {"down": down, "up": up, "bias": bias, "lookahead": _integer(choice.lookahead)},
            f32,
        )
        rule: dict[str, Attribute] = (
            {"count": _integer(choice.count), "group": _integer(choice.group)}
            if choice.group
            else {"threshold": _float(choice.threshold)}
        )
        return self._select(predict, rule, choice.density, choice.active)

    def _cutoff(self, choice: Cutoff, block: MlpBlock) -> SSAValue:
        gated = isinstance(block.op, spz.GatedMlp)
        if choice.of is Exact.GATE and not gated:
            raise PassError(block.op, "has no gate to cut off by; of = neuron would work")
        left_out = ("up", "up_bias") if choice.of is Exact.GATE else ()
        parts = ("gate", "up", "gate_bias", "up_bias", "act")
        known = {
            name: block.op.properties[name]
            for name in parts
            if name in block.op.properties and name not in left_out
        }
        values = self._insert(spz.Neurons, [block.input], known, f32)
        rule: dict[str, Attribute] = {
            "threshold": _float(choice.threshold),
            "magnitude": UnitAttr(),
        }
        if choice.of is Exact.NEURON and choice.threshold > 0:
            rule["scales"] = self._down_norms(block)
        return self._select(values, rule, choice.density, choice.density)

    def _nested(self, choice: Nested, block: MlpBlock) -> list[SSAValue]:
        parts = ("gate", "up", "gate_bias", "up_bias", "act")
        known = {name: block.op.properties[name] for name in parts if name in block.op.properties}
        operands = [block.input]
        if choice.rank:
            z, known["correction"] = self._correction(choice, block)
            operands.append(z)
        coarse = self._insert(spz.Neurons, operands, known | {"coarse": UnitAttr()}, f32)
        scores: dict[str, Attribute] = {"magnitude": UnitAttr(), "scales": self._down_norms(block)}
        above: dict[str, Attribute] = {"threshold": _float(choice.threshold)}
        fine = self._select(coarse, scores | above, choice.density, choice.density)
        between = {"threshold": _float(choice.floor), "below": _float(choice.threshold)}
        rest = self._select(coarse, scores | between, choice.coarse, choice.coarse)
        return [fine, rest, coarse]

    def _correction(self, choice: Nested, block: MlpBlock) -> tuple[SSAValue, SymbolRefAttr]:
        """The input in the basis of the correction, and the matrix of its factors."""
        basis, factors = correction_names(block.module)
        rows = block.units * (2 if isinstance(block.op, spz.GatedMlp) else 1)
        z = self._in_basis(basis, choice.rank)
        declare(self.module, factors, TensorType(f32, [rows, choice.rank]))
        return z, SymbolRefAttr(factors)

    def _approximate(self, choice: Approximate, block: MlpBlock) -> SSAValue:
        basis, gate, up, bias = approximation_names(block.module)
        gated = isinstance(block.op, spz.GatedMlp)
        z = self._in_basis(basis, choice.rank)
        declare(self.module, bias, TensorType(f32, [block.units]))
        given: dict[str, Attribute] = {
            "act": block.op.act,
            "approximate": UnitAttr(),
            "gate_bias" if gated else "up_bias": SymbolRefAttr(bias),
        }
        for name, matrix in (("gate", gate), ("up", up))[not gated :]:
            declare(self.module, matrix, TensorType(f32, [block.units, choice.rank]))
            given[name] = SymbolRefAttr(matrix)
        if gated and block.op.up_bias is not None:
            given["up_bias"] = block.op.up_bias
        values = self._insert(spz.Neurons, [z], given, f32)
        rule: dict[str, Attribute] = {
            "threshold": _float(choice.threshold),
            "magnitude": UnitAttr(),
            "scales": self._down_norms(block),
        }
        return self._select(values, rule, choice.density, choice.active)

    def _in_basis(self, basis: str, rank: int) -> SSAValue:
        """The input by its products with so many vectors."""
        rows, inputs = shape_of(self.source)
        declare(self.module, basis, TensorType(f32, [rank, inputs]))
        linear = spz.Linear.create(
            operands=[self.source],
            properties={"weight": SymbolRefAttr(basis)},
            attributes=from_module(self.block.module),
            result_types=[TensorType(f32, [rows, rank])],
        )
        self.builder.insert(linear)
        return linear.result

    def _down_norms(self, block: MlpBlock) -> SymbolRefAttr:
        """How much of a neuron's value reaches the output: the norms of the columns of down."""
        name = block.op.down.string_value()
        shape = weight_shapes(self.module)[name]
        body = IRBlock()
        get = aten.Get(name, TensorType(f32, shape))
        norm = aten.LinalgVectorNorm.call(
            {"self": get.result, "dim": [0]}, [TensorType(f32, shape[1:])], block.module
        )
        body.add_ops([get, norm])
        symbol, _ = Outliner(self.module).add(f"{name}.norms", body, norm.results[0])
        return SymbolRefAttr(symbol)

    def _select(
        self, scores: SSAValue, rule: dict[str, Attribute], density: float, active: float
    ) -> SSAValue:
        shares = {"density": _float(density), "active": _float(active)}
        return self._insert(spz.Select, [scores], rule | shares, i1)

    def _insert(
        self,
        kind: type[spz.SpzOp],
        operands: list[SSAValue],
        properties: dict[str, Attribute],
        element: Attribute,
    ) -> SSAValue:
        """A new op that gives something for each unit."""
        rows = shape_of(self.source)[0]
        op = kind.create(
            operands=operands,
            properties=properties,
            attributes=from_module(self.block.module),
            result_types=[TensorType(element, [rows, self.block.units])],
        )
        self.builder.insert(op)
        return op.results[0]


def declare(module: ModuleOp, name: str, type: TensorType[Attribute]) -> None:
    """A weight of this name, once for all functions."""
    if name not in weight_shapes(module):
        first = next(op for op in module.ops if isinstance(op, FuncOp))
        Builder(InsertPoint.before(first)).insert(aten.Weight(name, type))


def _keep(op: Operation, kept: Sequence[SSAValue]) -> None:
    """Let the op keep the selected units alone."""
    op.operands = [*op.operands, *kept]
    del op.attributes["sparsity"]


def _integer(value: int) -> IntegerAttr:
    return IntegerAttr(value, i64)


def _float(value: float) -> FloatAttr:
    return FloatAttr(value, f64)
