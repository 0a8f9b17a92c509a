"""select-kernels: each op becomes the kernels that compute it, over buffers.

@prefill and @decode become programs. Attention and MLPs of one row leave partial results that a
second kernel combines, so that workers can share the first. Moves (reshape, slice, permute, expand)
become views; what is left elementwise becomes maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    DenseArrayBase,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f32,
    i64,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue, Use
from xdsl.rewriter import InsertPoint

from sparsecomp import nibbles
from sparsecomp.dialects import aten, exec, spz
from sparsecomp.dialects.exec import row_strides
from sparsecomp.options import Device

from .base import Form, Pass, PassContext, PassError, function, functions, module_path
from .build import shape_of, tensor_type
from .canonicalize import CASTS
from .choose_layouts import (
    Need,
    Storages,
    approximation_need,
    matrix_need,
    mlp_need,
    row_needs,
    symbols,
    table_need,
)

ROWS_PER_WORKER = 64
"""Rows of a prompt that a worker takes at once: a panel of weights is widened once for them."""

FOLDS: dict[type[Operation], exec.Fold] = {
    aten.Mean: exec.Fold.MEAN,
    aten.Sum: exec.Fold.SUM,
    aten.Amax: exec.Fold.MAX,
    aten.Amin: exec.Fold.MIN,
    aten.Softmax: exec.Fold.SOFTMAX,
}


@dataclass(frozen=True)
class Slot:
    """Where a value is: a part of a buffer's row."""

    value: SSAValue
    shape: tuple[int, ...]
    start: int
    strides: tuple[int, ...]
    base: SSAValue

    @property
    def dense(self) -> bool:
        """Whether a row lies in order, so that kernels can read it."""
        expected = row_strides(self.shape)
        return all(
            s == e for s, e, n in zip(self.strides, expected, self.shape[1:], strict=True) if n != 1
        )


class Lowering:
    """One function to one program."""

    def __init__(self, func: FuncOp, storages: Storages, device: Device):
        self.func = func
        self.storages = storages
        self.device = device
        self.block = Block()
        self.builder = Builder(InsertPoint.at_end(self.block))
        self.slots: dict[SSAValue, Slot] = {}
        self.quantised: dict[SSAValue, SSAValue] = {}
        self.path = ""

    def run(self) -> exec.Program:
        for op in self.func.body.block.ops:
            self.path = module_path(op)
            self._lower(op)
        tile = 1 if self.func.sym_name.data == "decode" else ROWS_PER_WORKER
        return exec.Program.create(
            properties={
                "sym_name": StringAttr(self.func.sym_name.data),
                "tile": IntegerAttr(tile, i64),
            },
            regions=[Region(self.block)],
        )

    # ---- building ----

    def _insert(self, op: Operation) -> None:
        if self.path:
            op.attributes["module"] = StringAttr(self.path)
        self.builder.insert(op)

    def _buffer(self, shape: Sequence[int], hint: str | None = None) -> Slot:
        buffer = exec.Buffer.create(result_types=[MemRefType(f32, list(shape))])
        self.builder.insert(buffer)
        buffer.result.name_hint = hint
        value = buffer.result
        return Slot(value, tuple(shape), 0, row_strides(shape), value)

    def _result(self, value: SSAValue) -> Slot:
        """A new buffer for the result of an op."""
        slot = self._buffer(shape_of(value), value.name_hint)
        self.slots[value] = slot
        return slot

    def _view(self, source: Slot, shape: Sequence[int], start: int, strides: Sequence[int]) -> Slot:
        view = exec.View.create(
            operands=[source.base],
            properties={
                "start": IntegerAttr(start, i64),
                "strides": DenseArrayBase.from_list(i64, list(strides)),
            },
            result_types=[MemRefType(f32, list(shape))],
        )
        self.builder.insert(view)
        return Slot(view.result, tuple(shape), start, tuple(strides), source.base)

    def _dense(self, value: SSAValue) -> SSAValue:
        """The buffer of a value with rows in order, copied when they are not."""
        slot = self._slot(value)
        if slot.dense:
            return slot.value
        self.slots[value] = self._copied(slot)
        return self.slots[value].value

    def _packed(self, value: SSAValue) -> SSAValue:
        """The buffer of a value with rows in order and nothing between them."""
        dense = self._dense(value)
        slot = self.slots[value]
        width = math.prod(exec.shape_of(slot.base)[1:])
        if math.prod(slot.shape[1:]) == width:
            return dense
        return self._copied(slot).value

    def _factor(self, x: SSAValue, weight: SymbolRefAttr) -> SSAValue:
        """What a kernel multiplies the rows of a weight with: one row x is quantised, once, when
        the weight is. A GPU widens the weights instead: it waits for their bytes alone."""
        if self.device is Device.CUDA:
            return x
        storage = exec.find_storage(self.func, weight)
        by_columns = storage.layout.data is exec.Layout.COLUMNS
        shape = exec.shape_of(x)
        if not storage.quantised or by_columns or len(shape) != 2 or shape[0] != 1:
            return x
        if x not in self.quantised:
            out = self._buffer((1, nibbles.padded(shape[1])))
            self._kernel(exec.Quantize, [x, out.value], {})
            self.quantised[x] = out.value
        return self.quantised[x]

    def _copied(self, slot: Slot) -> Slot:
        copy = self._buffer(slot.shape)
        self._map([slot.value], copy.value, None)
        return copy

    def _slot(self, value: SSAValue) -> Slot:
        if value in self.slots:
            return self.slots[value]
        owner = value.owner
        if isinstance(owner, aten.Get):
            name = self.storages.name((exec.Layout.FLOATS, (owner.weight.string_value(),)))
            shape = shape_of(value)
            constant = exec.Constant.create(
                properties={"storage": SymbolRefAttr(name)},
                result_types=[MemRefType(f32, list(shape))],
            )
            self.builder.insert(constant)
            self.slots[value] = Slot(
                constant.result, (1, *shape), 0, row_strides((1, *shape)), constant.result
            )
            return self.slots[value]
        if value.owner is self.func.body.block:
            buffer = self._result(value)
            self._insert(
                exec.Ids.create(
                    operands=[buffer.value], properties={"index": exec.IndexAttr(_index(value))}
                )
            )
            return buffer
        raise AssertionError("a value without a buffer")

    def _kernel(
        self,
        kind: type[Operation],
        operands: Sequence[SSAValue],
        properties: dict[str, Attribute | None],
    ) -> None:
        self._insert(
            kind.create(
                operands=list(operands),
                properties={k: v for k, v in properties.items() if v is not None},
            )
        )

    def _storage(self, need: Need) -> SymbolRefAttr:
        return SymbolRefAttr(self.storages.name(need))

    def _matrix(
        self, op: spz.Linear | spz.LmHead | spz.SparseHead | spz.SparseLinear
    ) -> SymbolRefAttr:
        return self._storage(matrix_need(op, self.storages.by_columns))

    def _floats(self, op: Operation, name: str) -> SymbolRefAttr | None:
        """The storage of an op's weight that is f32 in order."""
        found = symbols(op, name)
        return self._storage((exec.Layout.FLOATS, found)) if found else None

    # ---- ops ----

    def _lower(self, op: Operation) -> None:
        match op:
            case aten.Get():
                pass
            case ReturnOp():
                self._return(op)
            case spz.Embed():
                self._embed(op)
            case spz.RmsNorm() | spz.LayerNorm():
                self._norm(op)
            case spz.Linear() | spz.LmHead():
                self._linear(op)
            case spz.SparseLinear():
                self._sparse_linear(op)
            case spz.Mlp() | spz.GatedMlp() if op.selection is None:
                self._mlp(op)
            case spz.Predict():
                self._predict(op)
            case spz.Neurons():
                self._neurons(op)
            case spz.Select():
                self._select(op)
            case spz.SparseMlp():
                self._sparse_mlp(op)
            case spz.Sketch():
                self._sketch(op)
            case spz.SparseHead():
                self._sparse_head(op)
            case spz.Rope():
                properties = {k: op.properties[k] for k in ("rotary", "pairing")}
                tables = {k: self._floats(op, k) for k in ("cos", "sin")}
                x = self._dense(op.x)
                self._kernel(exec.Rope, [x, self._result(op.result).value], properties | tables)
            case spz.CachedAttention():
                self._attention(op)
            case spz.AllReduce():
                xs = [] if op.x is None else [self._packed(op.x)]
                self._kernel(exec.AllReduce, [*xs, self._result(op.result).value], {})
            case spz.Last():
                x = self._dense(op.x)
                self._kernel(exec.Last, [x, self._result(op.result).value], {})
            case aten.Reshape() | aten.Permute() | aten.Slice() | aten.Expand():
                self._move(op)
            case aten.Cat():
                self._cat(op)
            case aten.Elementwise():
                ins = [self._aligned(o, op.results[0]) for o in op.operands]
                self._map(ins, self._result(op.results[0]).value, op)
            case aten.Topk():
                self._top_k(op)
            case aten.Gather() | aten.ScatterValue():
                self._pick(op)
            case spz.ExpertLinear():
                self._experts(op)
            case _ if type(op) in FOLDS:
                self._fold(op)
            case _:
                raise PassError(op, "has no native kernel")

    def _return(self, op: ReturnOp) -> None:
        (value,) = op.operands
        slot = self._slot(value)
        if slot.base is not slot.value or not isinstance(slot.base.owner, exec.Buffer):
            copy = self._buffer(slot.shape, "logits")
            self._map([slot.value], copy.value, None)
            slot = copy
        assert isinstance(slot.base.owner, exec.Buffer)
        slot.base.owner.properties["space"] = exec.SpaceAttr(exec.Space.OUTPUT)

    def _embed(self, op: spz.Embed) -> None:
        index = _index(op.ids) if op.ids.owner is self.func.body.block else None
        if index is None:
            raise PassError(op, "looks rows up by a computed index, which has no native kernel")
        self._kernel(
            exec.Embed,
            [self._result(op.result).value],
            {"table": self._storage(table_need(op)), "index": exec.IndexAttr(index)},
        )

    def _norm(self, op: spz.RmsNorm | spz.LayerNorm) -> None:
        kind = exec.NormKind.RMS if isinstance(op, spz.RmsNorm) else exec.NormKind.LAYER
        x = self._dense(op.x)
        self._kernel(
            exec.Norm,
            [x, self._result(op.result).value],
            {
                "kind": exec.NormKindAttr(kind),
                "weight": self._floats(op, "weight"),
                "bias": self._floats(op, "bias"),
                "eps": op.eps,
            },
        )

    def _linear(self, op: spz.Linear | spz.LmHead) -> None:
        # Several rows a token are read as so many more tokens.
        x = self._dense(op.x) if len(shape_of(op.x)) == 2 else self._packed(op.x)
        weight = self._matrix(op)
        self._kernel(
            exec.Linear,
            [self._factor(x, weight), self._result(op.result).value],
            {
                "weight": weight,
                "bias": self._floats(op, "bias"),
                "part": exec.PartAttr(_part(op)),
            },
        )

    def _sparse_linear(self, op: spz.SparseLinear) -> None:
        x, chosen = self._one_row(op), self._dense(op.selection)
        out, bias = self._result(op.result), self._floats(op, "bias")
        inputs = op.side.data is spz.Side.INPUTS
        parts = self._buffer(out.shape) if inputs else out
        weight = self._matrix(op)
        self._kernel(
            exec.SparseLinear,
            [self._factor(x, weight), chosen, parts.value],
            {
                "weight": weight,
                "bias": None if inputs else bias,
                "side": op.side,
                "blocks": IntegerAttr(shape_of(op.selection)[1], i64),
                "density": op.density,
                "part": exec.PartAttr(_part(op)),
            },
        )
        if inputs:
            self._kernel(exec.Sum, [parts.value, out.value], {"bias": bias})

    def _mlp(self, op: spz.Mlp | spz.GatedMlp) -> None:
        if len(shape_of(op.x)) != 2:
            raise PassError(op, "works on more than one row per token, which has no native kernel")
        if mlp_need(op) not in self.storages:
            self._mlp_by_rows(op)
            return
        weights = self._storage(mlp_need(op))
        x = self._factor(self._dense(op.x), weights)
        parts = self._buffer(shape_of(op.result))
        self._kernel(
            exec.Mlp,
            [x, parts.value],
            {
                "weights": weights,
                "gate_bias": self._floats(op, "gate_bias"),
                "up_bias": self._floats(op, "up_bias"),
                "gated": UnitAttr() if isinstance(op, spz.GatedMlp) else None,
                "act": op.act,
            },
        )
        out = self._result(op.result)
        self._kernel(exec.Sum, [parts.value, out.value], {"bias": self._floats(op, "down_bias")})

    def _mlp_by_rows(self, op: spz.Mlp | spz.GatedMlp) -> None:
        """As the linears it is made of."""
        *inputs, down = (self._storage(need) for need in row_needs(op))
        x, part = self._dense(op.x), exec.PartAttr(exec.Part.MLP)
        biases = ("gate_bias", "up_bias") if isinstance(op, spz.GatedMlp) else ("up_bias",)
        shape = (shape_of(op.x)[0], exec.find_storage(self.func, down).dims[1])
        values = []
        for weight, bias in zip(inputs, biases, strict=True):
            value = self._buffer(shape)
            self._kernel(
                exec.Linear,
                [self._factor(x, weight), value.value],
                {"weight": weight, "bias": self._floats(op, bias), "part": part},
            )
            values.append(value.value)
        hidden = self._buffer(shape)
        self._kernel(exec.Activate, [*values, hidden.value], {"act": op.act})
        self._kernel(
            exec.Linear,
            [self._factor(hidden.value, down), self._result(op.result).value],
            {"weight": down, "bias": self._floats(op, "down_bias"), "part": part},
        )

    # Sparsity is for the decode step: a list is made for one row.

    def _one_row(self, op: Operation) -> SSAValue:
        """The first operand of an op that must have one row."""
        if len(shape_of(op.operands[0])) != 2 or shape_of(op.operands[0])[0] != 1:
            raise PassError(op, "works on other than one row, which has no native kernel")
        return self._dense(op.operands[0])

    def _predict(self, op: spz.Predict) -> None:
        x = self._one_row(op)
        down, up = (self._storage((exec.Layout.ROWS, symbols(op, n))) for n in ("down", "up"))
        part = exec.PartAttr(exec.Part.PREDICTORS)
        rank = self._buffer((1, exec.find_storage(self.func, down).dims[0]))
        self._kernel(
            exec.Linear, [self._factor(x, down), rank.value], {"weight": down, "part": part}
        )
        self._kernel(
            exec.Linear,
            [self._factor(rank.value, up), self._result(op.result).value],
            {"weight": up, "bias": self._floats(op, "bias"), "part": part},
        )

    def _neurons(self, op: spz.Neurons) -> None:
        own = op.approximate is not None
        need = approximation_need(op) if own else self.storages.neurons(op)
        if need is None:
            raise PassError(op, "reads weights that are not those of an MLP's neurons")
        weights = self._storage(need)
        operands = [self._factor(self._one_row(op), weights)]
        correction = None
        if op.z is not None:
            correction = self._storage((exec.Layout.ROWS, symbols(op, "correction")))
            operands.append(self._factor(self._dense(op.z), correction))
        self._kernel(
            exec.Neurons,
            [*operands, self._result(op.result).value],
            {
                "weights": weights,
                "correction": correction,
                "coarse": op.coarse,
                "gate_bias": self._floats(op, "gate_bias"),
                "up_bias": self._floats(op, "up_bias"),
                "gated": None if op.gate is None else UnitAttr(),
                "gate_only": UnitAttr() if op.up is None else None,
                "act": op.act,
            },
        )

    def _select(self, op: spz.Select) -> None:
        scores = self._one_row(op)
        neurons = op.scores.owner
        exact = isinstance(neurons, spz.Neurons) and neurons.approximate is None
        names = ("threshold", "below", "count", "group", "magnitude", "density")
        how: dict[str, Attribute | None] = {name: op.properties.get(name) for name in names}
        how["scales"] = self._floats(op, "scales")
        if any(isinstance(use.operation, spz.SparseHead) for use in op.result.uses):
            how["or_all"] = UnitAttr()
        how["part"] = exec.PartAttr(exec.Part.MLP if exact else exec.Part.PREDICTORS)
        units = shape_of(op.result)[1]
        self.slots[op.result] = self._buffer((1, 1 + units), op.result.name_hint)
        self._kernel(exec.Select, [scores, self.slots[op.result].value], how)

    def _sketch(self, op: spz.Sketch) -> None:
        rows = self._storage((exec.Layout.SKETCH, symbols(op, "rows", "bias")))
        self._kernel(
            exec.Sketch, [self._one_row(op), self._result(op.result).value], {"rows": rows}
        )

    def _sparse_head(self, op: spz.SparseHead) -> None:
        weight = self._matrix(op)
        x, chosen = self._factor(self._one_row(op), weight), self._dense(op.selection)
        self._kernel(
            exec.SparseHead,
            [x, chosen, self._dense(op.scores), self._result(op.result).value],
            {
                "weight": weight,
                "bias": self._floats(op, "bias"),
                "offset": op.offset,
                "density": op.density,
            },
        )

    def _sparse_mlp(self, op: spz.SparseMlp) -> None:
        weights = self._storage(mlp_need(op))
        x = self._factor(self._one_row(op), weights)
        listed = (op.selection, op.values, op.rest, op.coarse)
        given = [None if value is None else self._dense(value) for value in listed]
        parts = self._buffer(shape_of(op.result))
        names = ("gate_known", "act", "density", "active", "rest_density")
        how: dict[str, Attribute | None] = {name: op.properties.get(name) for name in names}
        how["weights"] = weights
        how["gated"] = None if op.gate is None else UnitAttr()
        # What is known is not computed, so neither is a bias added.
        if op.values is None:
            how["gate_bias"] = self._floats(op, "gate_bias")
        if op.values is None or op.gate_known is not None:
            how["up_bias"] = self._floats(op, "up_bias")
        self._insert(
            exec.SparseMlp.build(
                operands=[x, *given, parts.value],
                properties={k: v for k, v in how.items() if v is not None},
            )
        )
        out = self._result(op.result)
        self._kernel(exec.Sum, [parts.value, out.value], {"bias": self._floats(op, "down_bias")})

    def _attention(self, op: spz.CachedAttention) -> None:
        q, k, v = (self._dense(x) for x in (op.q, op.k, op.v))
        self._kernel(exec.Append, [k, v], {"slot": op.slot})
        shape = shape_of(op.result)
        how: dict[str, Attribute | None] = {
            name: op.properties.get(name)
            for name in ("slot", "scale", "window", "chunk", "softcap")
        }
        how["slopes"] = self._floats(op, "slopes")
        sinks: dict[str, Attribute | None] = {"sinks": self._floats(op, "sinks")}
        if shape[0] == DYNAMIC_INDEX:
            if op.selection is not None:
                raise PassError(op, "of many rows with a selection has no native kernel")
            self._kernel(exec.Attend, [q, self._result(op.result).value], how | sinks)
            return
        head = math.ceil(shape[2] / exec.PART_ALIGN) * exec.PART_ALIGN + exec.PART_ALIGN
        parts = self._buffer((1, shape[1], head))
        kept = [] if op.selection is None else [self._dense(op.selection)]
        self._kernel(exec.Attend, [q, *kept, parts.value], how)
        self._kernel(exec.Combine, [parts.value, *kept, self._result(op.result).value], sinks)

    def _move(self, op: aten.AtenOp) -> None:
        source = self._slot(op.operands[0])
        shape = shape_of(op.results[0])
        strides: Sequence[int]
        if isinstance(op, aten.Reshape):
            if shape[1:] == () or not source.dense:
                self._dense(op.operands[0])
                source = self.slots[op.operands[0]]
            start, strides = source.start, row_strides(shape)
        elif isinstance(op, aten.Permute):
            dims = [d % len(source.shape) for d in op.arg("dims")]
            start, strides = source.start, [source.strides[d - 1] for d in dims[1:]]
        elif isinstance(op, aten.Slice):
            dim = op.arg("dim") % len(source.shape)
            first, step = op.arg("start") or 0, op.arg("step")
            first += source.shape[dim] if first < 0 else 0
            start = source.start + first * source.strides[dim - 1]
            strides = [s * (step if d == dim - 1 else 1) for d, s in enumerate(source.strides)]
        else:
            padded = (1,) * (len(shape) - len(source.shape)) + source.shape[1:]
            old = (0,) * (len(shape) - len(source.shape)) + source.strides
            start = source.start
            strides = [
                0 if have != want else stride
                for have, want, stride in zip(padded, shape[1:], old, strict=True)
            ]
        self.slots[op.results[0]] = self._view(source, shape, start, strides)

    def _cat(self, op: aten.Cat) -> None:
        out = self._result(op.results[0])
        dim = op.arg("dim") % len(out.shape)
        start = 0
        for operand in op.operands:
            source = self._slot(operand)
            part = self._view(out, source.shape, start, out.strides)
            self._map([source.value], part.value, None)
            start += source.shape[dim] * out.strides[dim - 1]

    def _fold(self, op: Operation) -> None:
        assert isinstance(op, aten.AtenOp)
        rank = len(shape_of(op.operands[0]))
        dims = op.arg("dim")
        dims = [d % rank for d in (dims if isinstance(dims, list) else [dims])]
        if len(dims) != 1:
            raise PassError(op, "along several dimensions at once has no native kernel")
        x = self._dense(op.operands[0]) if dims == [rank - 1] else self._turned(op, dims[0])
        fold = exec.FoldAttr(FOLDS[type(op)])
        self._kernel(exec.Reduce, [x, self._result(op.results[0]).value], {"fold": fold})

    def _turned(self, op: aten.AtenOp, dim: int) -> SSAValue:
        """The operand with dimension `dim` last, in order."""
        if isinstance(op, aten.Softmax):
            raise PassError(op, "along another dimension than the last has no native kernel")
        source = self._slot(op.operands[0])
        dims = [*(d for d in range(1, len(source.shape)) if d != dim), dim]
        shape = (source.shape[0], *(source.shape[d] for d in dims))
        view = self._view(source, shape, source.start, [source.strides[d - 1] for d in dims])
        return view.value if view.dense else self._copied(view).value

    def _top_k(self, op: aten.Topk) -> None:
        rank = len(shape_of(op.operands[0]))
        if op.arg("dim") % rank != rank - 1 or not op.arg("largest"):
            raise PassError(op, "other than the largest of the last dimension has no native kernel")
        x = self._dense(op.operands[0])
        *outer, count = shape_of(op.results[0])
        both = self._buffer((*outer, 2, count))
        self._kernel(exec.TopK, [x, both.value], {})
        strides = (*(2 * s for s in row_strides((*outer, count))[:-1]), 1)
        for i, result in enumerate(op.results):
            self.slots[result] = self._view(both, shape_of(result), i * count, strides)

    def _pick(self, op: aten.Gather | aten.ScatterValue) -> None:
        """Elements of the last dimension, by an index that depends on the token."""
        if op.arg("dim") % len(shape_of(op.results[0])) != len(shape_of(op.results[0])) - 1:
            raise PassError(op, "along another dimension than the last has no native kernel")
        x, index = (self._dense(o) for o in op.operands)
        operands = [x, index, self._result(op.results[0]).value]
        if isinstance(op, aten.Gather):
            self._kernel(exec.Gather, operands, {})
        else:
            value = FloatAttr(float(op.arg("value")), Float64Type())
            self._kernel(exec.Scatter, operands, {"value": value})

    def _experts(self, op: spz.ExpertLinear) -> None:
        x, experts = self._dense(op.x), self._dense(op.experts)
        self._kernel(
            exec.ExpertLinear,
            [x, experts, self._result(op.result).value],
            {
                "weight": self._storage((exec.Layout.ROWS, symbols(op, "weight"))),
                "bias": self._floats(op, "bias"),
            },
        )

    def _aligned(self, value: SSAValue, result: SSAValue) -> SSAValue:
        """An operand of a map with as many dimensions as the result: size 1 where it repeats."""
        slot = self._slot(value)
        missing = len(shape_of(result)) - len(slot.shape)
        if missing:
            shape = (slot.shape[0], *(1,) * missing, *slot.shape[1:])
            return self._view(slot, shape, slot.start, (0,) * missing + slot.strides).value
        return slot.value

    def _map(self, ins: Sequence[SSAValue], out: SSAValue, op: Operation | None) -> None:
        """A map of one elementwise op, or a copy."""
        scalar = TensorType(f32, [])
        body = Block(arg_types=[scalar] * len(ins))
        result: SSAValue = body.args[0]
        if op is not None:
            call = _on_scalars(op, body.args)
            body.add_op(call)
            result = call.results[0]
        body.add_op(exec.MapYield.create(operands=[result]))
        self._insert(exec.Map.create(operands=[*ins, out], regions=[Region(body)]))


def _on_scalars(op: Operation, args: Sequence[SSAValue]) -> aten.AtenOp:
    """An elementwise op on the arguments of a map's body."""
    assert isinstance(op, aten.AtenOp)
    scalar = TensorType(f32, [])
    if isinstance(op, CASTS):  # the new type, however it was said
        dtype = tensor_type(op.results[0]).element_type
        return aten.ToDtype.call({"self": args[0], "dtype": dtype}, [scalar])
    known = dict(zip(op.operands, args, strict=True))
    arguments = op.arguments()
    for name, value in arguments.items():
        if isinstance(value, SSAValue):
            arguments[name] = known[value]
    return type(op).call(arguments, [scalar])


def _index(ids: SSAValue) -> exec.Index:
    """Function arguments: the tokens, then their positions."""
    return (exec.Index.TOKENS, exec.Index.POSITIONS)[ids.index]  # type: ignore[attr-defined]


def _part(op: spz.Linear | spz.LmHead | spz.SparseLinear) -> exec.Part:
    """What the bytes of a linear count as: it feeds attention, or is fed by it, or neither."""
    if isinstance(op, spz.LmHead):
        return exec.Part.HEAD
    if any(_in_basis(use) for use in op.result.uses):
        return exec.Part.PREDICTORS
    if any(isinstance(use.operation, spz.Sketch) for use in op.result.uses):
        return exec.Part.PREDICTORS
    stack, seen = [use.operation for use in op.result.uses], set[Operation]()
    while stack:
        user = stack.pop()
        if isinstance(user, spz.CachedAttention):
            return exec.Part.ATTENTION
        if user not in seen and not isinstance(
            user,
            spz.Linear
            | spz.SparseLinear
            | spz.Predict
            | spz.Mlp
            | spz.GatedMlp
            | spz.SparseMlp
            | aten.Add,
        ):
            seen.add(user)
            stack += [use.operation for r in user.results for use in r.uses]
    source = op.x.owner
    while isinstance(source, aten.Structural | aten.Elementwise | spz.Last):
        source = source.operands[0].owner
    return exec.Part.ATTENTION if isinstance(source, spz.CachedAttention) else exec.Part.OTHER


def _in_basis(use: Use) -> bool:
    """Whether a value is read as an input in the basis of an approximation or a correction."""
    op = use.operation
    return isinstance(op, spz.Neurons) and (op.approximate is not None or use.index == 1)


class SelectKernels(Pass):
    name = "select-kernels"
    help = "turn each op into the kernels that compute it, over buffers"
    requires = (Form.ROWS, Form.DECODE)
    ensures = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        storages = Storages(module)
        slots = Builder(InsertPoint.before(next(functions(module))))
        for op in function(module, "decode").body.block.ops:
            if isinstance(op, spz.CachedAttention):
                slots.insert(_kv_slot(op))
        for func in list(functions(module)):
            program = Lowering(func, storages, ctx.device).run()
            Builder(InsertPoint.before(func)).insert(program)
            func.detach()
            func.erase()


def _kv_slot(op: spz.CachedAttention) -> exec.KVSlot:
    properties: dict[str, Attribute] = {
        "slot": op.slot,
        "groups": IntegerAttr(shape_of(op.k)[1], i64),
        "key": IntegerAttr(shape_of(op.k)[2], i64),
        "value": IntegerAttr(shape_of(op.v)[2], i64),
    }
    if op.window is not None:
        properties["window"] = op.window
    return exec.KVSlot.create(properties=properties)
