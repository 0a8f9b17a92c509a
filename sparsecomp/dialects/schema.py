"""Ops declared by a torch schema line, written and printed as the call they stand for.

    @schema("slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None) -> Tensor")
    class Slice(AtenOp): ...

prints as

    %4 = aten.slice.Tensor(%3, dim = 2, end = s) : (tensor<1x?x8xf32>) -> tensor<1x?x?xf32>

A tensor argument is an operand, any other argument a property. `s` is the sequence length, the one
symbolic size of an exported program. Arguments that only steer memory (device, layout, copy, ...)
are left out of the schema lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from xdsl.dialects.builtin import (
    ArrayAttr,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    i1,
    i64,
)
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    param_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import AttrParser, Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException


@irdl_attr_definition
class DimAttr(ParametrizedAttribute):
    """A size: `scale * s + offset`, where `s` is the sequence length: `7`, `s`, `2 s - 1`."""

    name = "aten.dim"
    scale: IntegerAttr = param_def()
    offset: IntegerAttr = param_def()

    @staticmethod
    def of(value: int | Dim) -> DimAttr:
        dim = value if isinstance(value, Dim) else Dim(0, value)
        return DimAttr(IntegerAttr(dim.scale, i64), IntegerAttr(dim.offset, i64))

    @property
    def value(self) -> int | Dim:
        """The plain int, or the Dim when it depends on `s`."""
        scale, offset = self.scale.value.data, self.offset.value.data
        return Dim(scale, offset) if scale else offset

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return DimAttr.of(parse_dim(parser)).parameters

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self.value))


@dataclass(frozen=True)
class Dim:
    """`scale * s + offset` with a scale other than 0."""

    scale: int
    offset: int = 0

    def __str__(self) -> str:
        head = "s" if self.scale == 1 else f"{self.scale} s"
        if not self.offset:
            return head
        return f"{head} {'+' if self.offset > 0 else '-'} {abs(self.offset)}"

    def at(self, length: int) -> int:
        return self.scale * length + self.offset


def parse_dim(parser: AttrParser) -> int | Dim:
    size = _parse_dim_from(parser, parser.parse_optional_integer(allow_boolean=False))
    if size is None:
        parser.raise_error("expected a size: an integer or an expression in s")
    return size


def _parse_dim_from(parser: AttrParser, scale: int | None) -> int | Dim | None:
    """The rest of a size after its first number, if it has one."""
    if parser.parse_optional_keyword("s") is None:
        return scale
    offset = 0
    for sign, factor in (("+", 1), ("-", -1)):
        if parser.parse_optional_characters(sign):
            offset = factor * parser.parse_integer(allow_boolean=False, allow_negative=False)
    return Dim(1 if scale is None else scale, offset)


@dataclass(frozen=True)
class Arg:
    """One argument of a schema: its torch type without marks, and the marks."""

    name: str
    type: str
    optional: bool
    default: str | None

    @property
    def is_tensor(self) -> bool:
        return self.type.startswith("Tensor")

    @property
    def is_list(self) -> bool:
        return self.type.endswith("[]")

    @property
    def default_value(self) -> Any:
        literal = {"True": True, "False": False, "None": None}
        if self.default is None or self.default in literal:
            return literal.get(self.default or "None")
        if self.default.startswith('"'):
            return self.default.strip('"')
        return float(self.default) if "." in self.default else int(self.default)


_ARG = re.compile(r"(?P<type>\w+(?:\?\[\]|\[\])?)(?P<opt>\?)? (?P<name>\w+)(?:=(?P<default>.+))?")


def parse_args(text: str) -> tuple[Arg, ...]:
    args = []
    for part in (p.strip() for p in text.split(", ")):
        if part and part != "*":
            match = _ARG.fullmatch(part)
            assert match is not None, f"schema argument {part!r}"
            args.append(
                Arg(match["name"], match["type"], match["opt"] is not None, match["default"])
            )
    return tuple(args)


# ---- one argument between Python, attribute and text ----


def to_attribute(value: Any) -> Attribute:
    """The attribute that holds a Python argument value."""
    match value:
        case bool():
            return IntegerAttr(int(value), i1)
        case int() | Dim():
            return DimAttr.of(value)
        case float():
            return FloatAttr(value, Float64Type())
        case str():
            return StringAttr(value)
        case Attribute():
            return value
        case list() | tuple():
            return ArrayAttr([to_attribute(v) for v in value])
        case _:
            raise TypeError(f"no attribute for {value!r}")


def to_python(attribute: Attribute) -> Any:
    """The Python value of an argument attribute: int, Dim, float, bool, str, list, or a dtype."""
    match attribute:
        case DimAttr():
            return attribute.value
        case IntegerAttr():
            return bool(attribute.value.data)
        case FloatAttr():
            return attribute.value.data
        case StringAttr():
            return attribute.data
        case ArrayAttr():
            return [to_python(a) for a in attribute]
        case _:
            return attribute


def _print_value(printer: Printer, value: Any) -> None:
    match value:
        case bool():
            printer.print_string("true" if value else "false")
        case float():
            text = repr(value)
            if "e" in text and "." not in text:
                text = text.replace("e", ".0e")
            printer.print_string(text)
        case str():
            printer.print_string_literal(value)
        case list():
            with printer.in_square_brackets():
                printer.print_list(value, lambda v: _print_value(printer, v))
        case Attribute():
            printer.print_attribute(value)
        case _:
            printer.print_string(str(value))


def _print_optional(printer: Printer, value: SSAValue | None) -> None:
    if value is None:
        printer.print_string("none")
    else:
        printer.print_operand(value)


def _parse_value(parser: Parser, type: str) -> Any:
    match type:
        case _ if type.endswith("[]"):
            return parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE, lambda: _parse_value(parser, type[:-2])
            )
        case "bool":
            return parser.parse_boolean()
        case "str":
            return parser.parse_str_literal()
        case "ScalarType":
            return parser.parse_type()
        case "int" | "SymInt":
            return parse_dim(parser)
        case _:
            return _parse_number(parser)


def _parse_number(parser: Parser) -> bool | int | float | Dim:
    boolean = parser.parse_optional_boolean()
    if boolean is not None:
        return boolean
    negative = parser.parse_optional_punctuation("-") is not None
    word = parser.parse_optional_keyword_in(("inf", "nan"))
    if word is not None:
        return -float(word) if negative else float(word)
    number = parser.parse_optional_number()
    if number is not None and negative:
        number = -number
    if isinstance(number, float):
        return number
    size = _parse_dim_from(parser, number)
    if size is None:
        parser.raise_error("expected a number or an expression in s")
    return size


# ---- ops ----


class CallOp(IRDLOperation):
    """An op that is a call: operands and properties by the names of its schema."""

    ARGS: ClassVar[tuple[Arg, ...]]
    RESULTS_ARE_LIST: ClassVar[bool]
    """Set by `schema`: the arguments, and whether the results are one list of tensors."""

    @classmethod
    def call(
        cls, values: Mapping[str, Any], result_types: Sequence[Attribute], module: str = ""
    ) -> Self:
        """Build the op from its arguments by name: SSA values for tensors, Python values else."""
        operands: list[SSAValue | Sequence[SSAValue]] = []
        properties: dict[str, Attribute] = {}
        for arg in cls.ARGS:
            value = values.get(arg.name)
            if not arg.is_tensor:
                if value is not None and value != arg.default_value:
                    properties[arg.name] = to_attribute(value)
                continue
            if arg.type == "Tensor?[]":
                holes = [v is None for v in value or ()]
                properties[f"{arg.name}_holes"] = to_attribute(holes)
                value = [v for v in value or () if v is not None]
            operands.append(value if value is not None else [])
        types: Sequence[Any] = [list(result_types)] if cls.RESULTS_ARE_LIST else result_types
        op = cls(operands=operands, result_types=types, properties=properties)
        if module:
            op.attributes["module"] = StringAttr(module)
        return op

    def arg(self, name: str) -> Any:
        """A non-tensor argument as a Python value; its default when it is not given."""
        attribute = self.properties.get(name)
        if attribute is not None:
            return to_python(attribute)
        return next(a for a in self.ARGS if a.name == name).default_value

    def arguments(self) -> dict[str, Any]:
        """Every argument by name: SSA value(s) or None for tensors, Python values else."""
        out: dict[str, Any] = {}
        for arg in self.ARGS:
            if not arg.is_tensor:
                out[arg.name] = self.arg(arg.name)
                continue
            value = getattr(self, arg.name)
            if arg.type == "Tensor?[]":
                given = iter(value)
                value = [None if hole else next(given) for hole in self.arg_holes(arg.name)]
            out[arg.name] = list(value) if arg.is_list else value
        return out

    def arg_holes(self, name: str) -> list[bool]:
        return list(to_python(self.properties[f"{name}_holes"]))

    @property
    def module_path(self) -> str:
        """The model's module that made this call (`model.layers.3.mlp`), or ''."""
        attribute = self.attributes.get("module")
        return attribute.data if isinstance(attribute, StringAttr) else ""

    def print(self, printer: Printer) -> None:
        def print_arg(item: tuple[str, Any]) -> None:
            name, value = item
            printer.print_string(name)
            if isinstance(value, SSAValue):
                printer.print_operand(value)
            elif isinstance(value, list) and any(isinstance(v, SSAValue) for v in value):
                with printer.in_square_brackets():
                    printer.print_list(value, lambda v: _print_optional(printer, v))
            else:
                _print_value(printer, value)

        items: list[tuple[str, Any]] = []
        values = self.arguments()
        positional = True
        for arg in self.ARGS:
            value = values[arg.name]
            if arg.is_tensor and positional and value is not None:
                items.append(("", value))
                continue
            positional = False
            if value is not None and (arg.is_tensor or arg.name in self.properties):
                items.append((f"{arg.name} = ", value))
        with printer.in_parens():
            printer.print_list(items, print_arg)
        printer.print_string(" : ")
        printer.print_operation_type(self)
        printer.print_op_attributes(self.attributes)

    @classmethod
    def parse(cls, parser: Parser) -> CallOp:
        values: dict[str, Any] = {}
        position = iter(cls.ARGS)

        def parse_operand_list() -> list[UnresolvedOperand | None]:
            return parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE,
                lambda: (
                    None
                    if parser.parse_optional_keyword("none")
                    else parser.parse_unresolved_operand()
                ),
            )

        def parse_arg() -> None:
            name = parser.parse_optional_identifier()
            if name is None:
                arg = next(position, None)
            else:
                parser.parse_punctuation("=")
                arg = next((a for a in cls.ARGS if a.name == name), None)
            if arg is None or arg.name in values or (name is None and not arg.is_tensor):
                parser.raise_error(f"{cls.name} takes no such argument here")
            if not arg.is_tensor:
                values[arg.name] = _parse_value(parser, arg.type)
            elif arg.is_list:
                values[arg.name] = parse_operand_list()
            else:
                values[arg.name] = parser.parse_unresolved_operand()

        parser.parse_comma_separated_list(parser.Delimiter.PAREN, parse_arg)
        parser.parse_punctuation(":")
        function_type = parser.parse_function_type()
        types: Iterable[Attribute] = iter(function_type.inputs)

        def resolve(value: Any) -> Any:
            match value:
                case UnresolvedOperand():
                    type = next(iter(types), None)
                    if type is None:
                        parser.raise_error("fewer operand types than operands")
                    return parser.resolve_operand(value, type)
                case list() if any(isinstance(v, UnresolvedOperand) for v in value):
                    return [resolve(v) for v in value]
                case _:
                    return value

        for arg in cls.ARGS:
            if arg.name in values:
                values[arg.name] = resolve(values[arg.name])
            elif arg.is_tensor and not arg.optional and not arg.is_list:
                parser.raise_error(f"{cls.name} needs {arg.name}")
        op = cls.call(values, list(function_type.outputs))
        op.attributes = parser.parse_optional_attr_dict()
        return op

    def verify_(self) -> None:
        for arg in self.ARGS:
            attribute = self.properties.get(arg.name)
            if attribute is None and not arg.is_tensor and arg.default is None and not arg.optional:
                raise VerifyException(f"{self.name} needs {arg.name}")


C = TypeVar("C", bound=CallOp)


def schema(dialect: str, line: str) -> Callable[[type[C]], type[C]]:
    """Class decorator: make the class an op with the operands and properties of a schema line."""
    head, _, result = line.partition(" -> ")
    name, _, arguments = head.partition("(")
    args = parse_args(arguments.removesuffix(")"))

    def define(cls: type[C]) -> type[C]:
        cls.name = f"{dialect}.{name}"
        results_are_list = result.endswith("[]")
        cls.irdl_options = (AttrSizedOperandSegments(as_property=True),)  # type: ignore[attr-defined]
        for arg in args:
            setattr(cls, arg.name, _field(arg))
            if arg.type == "Tensor?[]":
                setattr(cls, f"{arg.name}_holes", prop_def(ArrayAttr))
        if results_are_list:
            cls.outputs = var_result_def(TensorType)  # type: ignore[attr-defined]
        else:
            for i in range(result.count("Tensor")):
                setattr(cls, f"result{i}" if i else "result", result_def(TensorType))
        cls.traits = traits_def(Pure())
        op = irdl_op_definition(cls)
        # Set afterwards: irdl takes every other class field for a part of the op.
        op.ARGS = args
        op.RESULTS_ARE_LIST = results_are_list
        return op

    return define


def _field(arg: Arg) -> Any:
    if arg.is_tensor:
        if arg.is_list:
            return var_operand_def(TensorType)
        return opt_operand_def(TensorType) if arg.optional else operand_def(TensorType)
    needed = arg.default is None and not arg.optional
    return prop_def(Attribute) if needed else opt_prop_def(Attribute)
