"""torch.export's graph to the aten dialect: one op per call, mutation and bookkeeping gone."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._sympy.functions import Max, Min
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FunctionType,
    ModuleOp,
    TensorType,
    bf16,
    f16,
    f32,
    f64,
    i1,
    i8,
    i16,
    i32,
    i64,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Region, SSAValue

from sparsecomp.dialects import aten
from sparsecomp.dialects.schema import Arg, CallOp, Dim
from sparsecomp.errors import SparsecompError

_TYPES: dict[torch.dtype, Attribute] = {
    torch.float32: f32,
    torch.float64: f64,
    torch.float16: f16,
    torch.bfloat16: bf16,
    torch.bool: i1,
    torch.int8: i8,
    torch.int16: i16,
    torch.int32: i32,
    torch.int64: i64,
}
TO_THE_END = 2**63 - 1
"""How torch spells a slice without an end."""


_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float)


def import_program(program: ExportedProgram, names: Mapping[str, str]) -> ModuleOp:
    """The aten module of an exported program that maps ids [1, s] to one tensor.

    `names` gives the weight's name for each parameter, buffer and constant of the program; a
    tensor that has several names there is declared once.

    Raises SparsecompError when a call is not in the dialect, a size is not affine in `s`, or a
    tensor is changed in place while another view of it is still needed.
    """
    return _Importer(program, names).module()


@dataclass(frozen=True)
class _Item:
    """One node to import, in the environment of the (sub)graph that it is in."""

    node: fx.Node
    env: dict[fx.Node, Any]


class _Importer:
    def __init__(self, program: ExportedProgram, names: Mapping[str, str]):
        self.program = program
        self.names = names
        self.block = Block()
        self.declared: dict[str, TensorType[Attribute]] = {}
        self.loaded: dict[str, SSAValue] = {}
        self.aliases = _Aliases()

    def module(self) -> ModuleOp:
        env: dict[fx.Node, Any] = {}
        ids = self._bind_inputs(env)
        outputs = self._graph(self.program.graph_module, env)
        kinds = [spec.kind for spec in self.program.graph_signature.output_specs]
        result = outputs[kinds.index(OutputKind.USER_OUTPUT)]
        self.block.add_op(ReturnOp(result))
        function = FuncOp(
            "forward",
            FunctionType.from_lists([ids.type], [result.type]),
            Region(self.block),
        )
        weights = [aten.Weight(name, type) for name, type in self.declared.items()]
        module = ModuleOp([*weights, function])
        module.verify()
        return module

    # ---- inputs ----

    def _bind_inputs(self, env: dict[fx.Node, Any]) -> SSAValue:
        nodes = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        ids: SSAValue | None = None
        for spec in self.program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                self.length = _symbol(node)
                self.lengths = self.program.range_constraints[self.length]
                ids = self.block.insert_arg(_type(node.meta["val"]), 0)
                ids.name_hint = node.name
                env[node] = ids
            else:
                assert spec.target is not None
                env[node] = _Weight(self.names[spec.target], _type(node.meta["val"]))
        assert ids is not None
        return ids

    def _weight(self, weight: _Weight) -> SSAValue:
        if weight.name not in self.loaded:
            get = aten.Get(weight.name, weight.type)
            self.block.add_op(get)
            self.declared[weight.name] = weight.type
            self.loaded[weight.name] = get.result
        return self.loaded[weight.name]

    # ---- graphs ----

    def _graph(self, graph: fx.GraphModule, env: dict[fx.Node, Any]) -> Sequence[Any]:
        """Import a graph whose placeholders are in `env`; what it returns."""
        for node in graph.graph.nodes:
            match node.op:
                case "placeholder":
                    pass
                case "get_attr":
                    env[node] = getattr(graph, str(node.target))
                case "call_function":
                    env[node] = self._call(_Item(node, env))
                case "output":
                    self.aliases.check(node)
                    return [self._value(v, env) for v in node.args[0]]
                case _:
                    raise SparsecompError(f"{_place(node)}: {node.op} is not known to sparsecomp")
        raise AssertionError("a graph ends in its output")

    def _value(self, argument: Any, env: Mapping[fx.Node, Any]) -> Any:
        """An argument with nodes replaced by SSA values and symbolic sizes by Dims."""
        match argument:
            case fx.Node():
                value = argument.meta.get("val")
                if isinstance(value, _SYMBOLIC):
                    return self._dim(value, argument)
                known = env[argument]
                return self._weight(known) if isinstance(known, _Weight) else known
            case list() | tuple():
                return [self._value(v, env) for v in argument]
            case torch.dtype():
                return _TYPES[argument]
            case _:
                return argument

    # ---- calls ----

    def _call(self, item: _Item) -> Any:
        node, env = item.node, item.env
        target = node.target
        if _is_symbolic(node) or node.meta.get("val") is None:
            return None  # sizes are read where they are used; checks and mode switches say nothing
        self.aliases.check(node)
        if target is operator.getitem:
            source, index = node.args
            return self._value(source, env)[index]
        if isinstance(target, torch._ops.HigherOrderOperator):
            return self._inline(item)
        if not isinstance(target, torch._ops.OpOverload):
            raise SparsecompError(f"{_place(node)}: not known to sparsecomp")
        return self._aten(item, target)

    def _inline(self, item: _Item) -> Sequence[Any]:
        """A region under another grad or autocast mode: its ops, in place."""
        node, env = item.node, item.env
        operands = [env.get(a, a) if isinstance(a, fx.Node) else a for a in node.args]
        at = next((i for i, a in enumerate(operands) if isinstance(a, fx.GraphModule)), None)
        if at is None:
            raise SparsecompError(f"{_place(node)}: not known to sparsecomp")
        body: Any = operands[at]
        inner = [n for n in body.graph.nodes if n.op == "placeholder"]
        for outer, placeholder in zip(node.args[at + 1 :], inner, strict=True):
            if isinstance(outer, fx.Node):
                self.aliases.same(outer, placeholder)
        results = self._graph(body, dict(zip(inner, operands[at + 1 :], strict=True)))
        return results

    def _aten(self, item: _Item, target: torch._ops.OpOverload) -> Any:
        node, env = item.node, item.env
        given = dict(_arguments(node, target))
        cls, mutated = self._class(node, target, given)
        values = {a.name: self._argument(a, given, item) for a in cls.ARGS if a.name in given}
        meta = node.meta["val"]
        results = meta if isinstance(meta, list | tuple) else [meta]
        op = cls.call(values, [_type(r) for r in results], module=_module_path(node))
        self.block.add_op(op)
        for result in op.results:
            result.name_hint = node.name
        if mutated is not None:
            env[mutated] = op.results[0]
            self.aliases.mutate(mutated, node)
        elif _may_view(target):
            for source in node.all_input_nodes:
                self.aliases.same(source, node)
        return list(op.results) if isinstance(meta, list | tuple) else op.results[0]

    def _class(
        self, node: fx.Node, target: torch._ops.OpOverload, given: Mapping[str, Any]
    ) -> tuple[type[CallOp], fx.Node | None]:
        """The dialect's op for a call, and the node whose tensor the call changes in place."""
        base = target._schema.name.replace("::", ".")
        overload = target._schema.overload_name
        mutated = None
        if target._schema.is_mutable and base + _dotted(overload) not in aten.CALLS:
            base, mutated = base.removesuffix("_"), given[target._schema.arguments[0].name]
        if any(isinstance(given.get(name), int | float) for name in _tensor_arguments(target)):
            overload = "Scalar"  # x + 1 is exported as add.Tensor
        cls = aten.CALLS.get(base + _dotted(overload))
        if cls is None:
            name = base + _dotted(overload)
            raise SparsecompError(f"{_place(node, name)}: not known to sparsecomp")
        return cls, mutated

    def _argument(self, arg: Arg, given: Mapping[str, Any], item: _Item) -> Any:
        value = self._value(given[arg.name], item.env)
        if arg.type == "SymInt" and value == TO_THE_END:
            return None
        if arg.type == "float" or (arg.type == "Scalar" and isinstance(value, float)):
            return None if value is None else float(value)
        return value

    # ---- sizes and types ----

    def _dim(self, value: Any, node: fx.Node) -> int | Dim:
        if isinstance(value, int):
            return value
        affine = _affine(value.node.expr, self.length, self.lengths)
        if affine is None:
            expression = str(value.node.expr).replace(str(self.length), "s")
            raise SparsecompError(f"{_place(node)}: size {expression} is not of the form a * s + b")
        scale, offset = affine
        return Dim(scale, offset) if scale else offset


@dataclass(frozen=True)
class _Weight:
    """A parameter, buffer or constant that no op has read yet."""

    name: str
    type: TensorType[Attribute]


class _Aliases:
    """Which nodes may share memory, and which of them are stale after an in-place call."""

    def __init__(self) -> None:
        self._group: dict[fx.Node, set[fx.Node]] = {}
        self._stale: dict[fx.Node, fx.Node] = {}

    def same(self, a: fx.Node, b: fx.Node) -> None:
        """`a` and `b` may share memory."""
        joined = self._group.get(a, {a}) | self._group.get(b, {b})
        for node in joined:
            self._group[node] = joined

    def mutate(self, target: fx.Node, call: fx.Node) -> None:
        """`call` changed `target` in place: every other view still has the old value in the IR."""
        for node in self._group.get(target, {target}) - {target}:
            self._stale[node] = call

    def check(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            if source in self._stale:
                raise SparsecompError(
                    f"{_place(self._stale[source])}: changes a tensor in place that "
                    f"{source.name} still views; only in-place calls on unshared tensors work"
                )


# ---- reading fx nodes ----


def _type(tensor: torch.Tensor) -> TensorType[Attribute]:
    shape = [_size(d) for d in tensor.shape]
    return TensorType(_TYPES[tensor.dtype], shape)


def _size(size: int | torch.SymInt) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression) if expression.is_number else DYNAMIC_INDEX


def _arguments(node: fx.Node, target: torch._ops.OpOverload) -> Iterator[tuple[str, Any]]:
    names = (a.name for a in target._schema.arguments)
    yield from zip(names, node.args, strict=False)
    yield from node.kwargs.items()


def _tensor_arguments(target: torch._ops.OpOverload) -> Iterator[str]:
    return (a.name for a in target._schema.arguments if isinstance(a.type, torch.TensorType))


def _dotted(overload: str) -> str:
    return f".{overload}" if overload else ""


def _may_view(target: torch._ops.OpOverload) -> bool:
    return any(r.alias_info is not None for r in target._schema.returns)


def _is_symbolic(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), _SYMBOLIC)


def _symbol(ids: fx.Node) -> sympy.Symbol:
    length = ids.meta["val"].shape[1]
    return length.node.expr


@cache
def _affine(
    expression: sympy.Expr, length: sympy.Symbol, lengths: ValueRanges[sympy.Expr]
) -> tuple[int, int] | None:
    """(a, b) where the expression is a * length + b for every length that was traced."""

    def larger(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
        difference = bound_sympy(a - b, {length: lengths})
        return a if difference.lower >= 0 else b if difference.upper <= 0 else sympy.Max(a, b)

    def smaller(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
        return -larger(-a, -b)

    settled = sympy.expand(expression.replace(Max, larger).replace(Min, smaller))
    offset = settled.subs(length, 0)
    scale = settled.subs(length, 1) - offset
    exact = sympy.expand(settled - scale * length - offset) == 0
    if not (exact and scale.is_Integer and offset.is_Integer):
        return None
    return int(scale), int(offset)


def _module_path(node: fx.Node) -> str:
    """The innermost module that made the call, without the exported wrapper's attribute."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1][0].partition(".")[2] if stack else ""


def _place(node: fx.Node, name: str = "") -> str:
    path = _module_path(node)
    return f"op {name or node.target}" + (f" in {path}" if path else "")
