"""The evaluator: only what is asked for, sizes in s, far positions, derived weights, errors."""

from __future__ import annotations

import pytest
import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.parser import Parser

from sparsecomp.dialects import context
from sparsecomp.dialects.aten import CALLS
from sparsecomp.errors import SparsecompError
from sparsecomp.reference.evaluate import Derived, evaluate


def parse(body: str, declarations: str = "") -> tuple[ModuleOp, dict[str, SSAValue]]:
    """A module with @f around `body`, and its values by name."""
    text = f"{declarations}\nfunc.func @f(%x : tensor<1x?xf32>) {{\n{body}\nfunc.return\n}}"
    module = Parser(context(), text).parse_module()
    (function,) = (op for op in module.ops if op.name == "func.func")
    block = function.regions[0].block
    values = [*block.args, *(r for op in block.ops for r in op.results)]
    return module, {v.name_hint: v for v in values if v.name_hint}


def no_weights(name: str) -> torch.Tensor:
    raise AssertionError(f"{name} was read")


MASK = """
%row = aten.arange(end = s) : () -> tensor<?xi64>
%column = aten.unsqueeze(%row, dim = 1) : (tensor<?xi64>) -> tensor<?x1xi64>
%late = aten.ge.Scalar(%column, other = 100) : (tensor<?x1xi64>) -> tensor<?x1xi1>
%shifted = aten.arange.start(start = 1, end = s + 1) : () -> tensor<?xi64>
%as_float = aten.arange.start(start = 0, end = s, dtype = f32) : () -> tensor<?xf32>
"""


def test_only_the_slice_is_computed() -> None:
    _, values = parse(
        """
        %w = aten.get @w : tensor<3xf32>
        %y = aten.mul.Scalar(%x, other = 2) : (tensor<1x?xf32>) -> tensor<1x?xf32>
        %sum = aten.add.Tensor(%y, %y, alpha = 3)
          : (tensor<1x?xf32>, tensor<1x?xf32>) -> tensor<1x?xf32>
        """,
        "aten.weight @w : tensor<3xf32>",
    )
    x = torch.tensor([[1.0, -2.0]])
    (total,) = evaluate([values["sum"]], {values["x"]: x}, length=2, weights=no_weights)
    assert total.tolist() == [[8.0, -16.0]]


def test_any_value_can_be_bound() -> None:
    _, values = parse(MASK)
    column = torch.tensor([[99], [100]])
    (late,) = evaluate([values["late"]], {values["column"]: column}, length=2, weights=no_weights)
    assert late.tolist() == [[False], [True]]


def test_unbound_argument_is_a_bug_not_a_tensor() -> None:
    _, values = parse("")
    with pytest.raises(ValueError, match="no tensor bound"):
        evaluate([values["x"]], {}, length=2, weights=no_weights)


def test_positions_stand_for_the_count_from_zero_only() -> None:
    _, values = parse(MASK)
    asked = [values[n] for n in ("row", "late", "shifted", "as_float")]
    row, late, shifted, as_float = evaluate(
        asked, {}, length=2, weights=no_weights, positions=torch.tensor([7, 4000])
    )
    assert row.tolist() == [7, 4000]
    assert late.tolist() == [[False], [True]]
    assert shifted.tolist() == [1, 2]
    assert (as_float.dtype, as_float.tolist()) == (torch.float32, [7.0, 4000.0])


def test_positions_must_fit_the_length() -> None:
    _, values = parse(MASK)
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(2,\)"):
        evaluate(
            [values["row"]], {}, length=2, weights=no_weights, positions=torch.tensor([1, 2, 3])
        )


def test_sizes_are_in_s() -> None:
    _, values = parse(
        """
        %full = aten.full(size = [2, 2 s - 1], fill_value = 0.5) : () -> tensor<2x?xf32>
        %part = aten.slice.Tensor(%full, dim = 1, start = s) : (tensor<2x?xf32>) -> tensor<2x?xf32>
        """
    )
    full, part = evaluate([values["full"], values["part"]], {}, length=5, weights=no_weights)
    assert full.shape == (2, 9)
    assert part.shape == (2, 4)


def test_lists_holes_and_several_results() -> None:
    _, values = parse(
        """
        %a, %b = aten.chunk(%x, chunks = 2, dim = -1)
          : (tensor<1x?xf32>) -> (tensor<1x?xf32>, tensor<1x?xf32>)
        %c = aten.cat([%b, %a], dim = -1) : (tensor<1x?xf32>, tensor<1x?xf32>) -> tensor<1x?xf32>
        %i = aten.arange(end = 1) : () -> tensor<1xi64>
        %d = aten.index.Tensor(%c, [none, %i]) : (tensor<1x?xf32>, tensor<1xi64>) -> tensor<1x1xf32>
        """
    )
    x = torch.arange(4.0)[None]
    c, d = evaluate([values["c"], values["d"]], {values["x"]: x}, length=4, weights=no_weights)
    assert c.tolist() == [[2, 3, 0, 1]]
    assert d.tolist() == [[2]]


DERIVED = """
aten.weight @scale : tensor<1xf32>
aten.derived @table : tensor<?xf32> {
  %0 = aten.arange(end = s, dtype = f32) : () -> tensor<?xf32>
  %1 = aten.get @scale : tensor<1xf32>
  %2 = aten.mul.Tensor(%0, %1) : (tensor<?xf32>, tensor<1xf32>) -> tensor<?xf32>
  aten.yield %2 : tensor<?xf32>
}
"""


def test_derived_weights_have_a_row_per_position_compiled_for() -> None:
    _, values = parse("%t = aten.get @table : tensor<?xf32>", DERIVED)
    read = []

    def weights(name: str) -> torch.Tensor:
        read.append(name)
        return torch.tensor([10.0])

    derived = Derived(positions=4)
    for length in (2, 3):
        (table,) = evaluate([values["t"]], {}, length=length, weights=weights, derived=derived)
        assert table.tolist() == [0.0, 10.0, 20.0, 30.0]
    assert read == ["scale"]


def test_failure_names_the_op_and_the_module() -> None:
    _, values = parse(
        "%y = aten.squeeze.dim(%x, dim = 4) : (tensor<1x?xf32>) -> tensor<1x?xf32>"
        ' {module = "model.norm"}'
    )
    with pytest.raises(SparsecompError, match=r"^op aten\.squeeze\.dim in model\.norm: .*range"):
        evaluate([values["y"]], {values["x"]: torch.ones(1, 2)}, length=2, weights=no_weights)


def test_undeclared_weight_is_named() -> None:
    _, values = parse("%y = aten.get @nowhere : tensor<1xf32>")
    with pytest.raises(SparsecompError, match="nothing is declared as @nowhere"):
        evaluate([values["y"]], {}, length=2, weights=no_weights)


@pytest.mark.parametrize("name", CALLS)
def test_every_schema_line_is_a_call_that_torch_has(name: str) -> None:
    base, _, overload = name.removeprefix("aten.").partition(".")
    schema = getattr(getattr(torch.ops.aten, base), overload or "default")._schema
    theirs = {a.name: a for a in schema.arguments}
    ours = {a.name for a in CALLS[name].ARGS}
    assert ours <= theirs.keys()
    left_out = theirs.keys() - ours - {"device"}
    assert all(theirs[n].has_default_value() for n in left_out)
