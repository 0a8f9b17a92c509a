"""Graphs that few models have: in-place calls, regions, constants, sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.importer import import_program
from sparsecomp.reference.interpreter import Interpreter


class Wrapper(nn.Module):
    """As the frontend wraps a model: paths lose their first part."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids)


class Tiny(nn.Module):
    """A table of 8 rows of 4, and what a test does with the rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(8, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.compute(self.table(ids))

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def check(model: Tiny) -> str:
    """Import the model, compare with running it, and return the IR's text."""
    wrapped = Wrapper(model).eval()
    program = export(
        wrapped,
        (torch.zeros(1, 7, dtype=torch.int64),),
        dynamic_shapes=({1: Dim("s", min=2, max=63)},),
        strict=False,
    )
    names = {n: n.removeprefix("model.") for n, _ in wrapped.named_parameters()}
    names |= {n: n for n in program.constants}
    values = {n.removeprefix("model."): p for n, p in wrapped.named_parameters()}
    values |= program.constants
    module = import_program(program, names)
    ids = torch.randint(0, 8, (1, 5), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (actual,) = Interpreter(module, lambda n: values[n].detach(), 64).run("forward", ids)
        torch.testing.assert_close(actual, wrapped(ids), rtol=0, atol=0)
    return str(module)


def test_in_place_calls_become_functional() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            y.mul_(x)
            y += 1
            return y + y.exp_()

    text = check(Model())
    assert "aten.mul.Tensor" in text
    assert "_(" not in text


def test_in_place_call_on_a_shared_tensor_is_refused() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            view = y.transpose(1, 2)
            y.mul_(3)
            return view.transpose(1, 2)

    with pytest.raises(SparsecompError, match=r"aten\.mul_\.Tensor.*changes a tensor in place"):
        check(Model())


def test_in_place_call_on_a_view_is_refused_when_the_whole_is_used() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            y[:, :, :2].mul_(3)
            return y

    with pytest.raises(SparsecompError, match="changes a tensor in place"):
        check(Model())


def test_regions_without_gradients_are_inlined() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                a, b = x.chunk(2, dim=-1)
                c = a - b
            return torch.cat([c, b], dim=-1)

    assert "aten.chunk" in check(Model())


def test_constants_of_the_code_become_weights() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.tensor([1.0, 2.0, 3.0, 4.0])

    assert ": tensor<4xf32>" in check(Model())


def test_number_operands_keep_their_type() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            positions = torch.arange(x.shape[1])
            return x + ((positions + 1) * 2 // 3).unsqueeze(-1) / 4

    text = check(Model())
    assert "aten.add.Scalar(%arange, other = 1)" in text
    assert "aten.floor_divide.Scalar" in text


def test_sizes_are_written_in_s() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            s = x.shape[1]
            doubled = torch.cat([x, x], dim=1)
            return doubled[:, s - 1 : 2 * s - 1] + torch.arange(max(0, s - 70), s).view(1, s, 1)

    text = check(Model())
    assert "start = s - 1, end = 2 s - 1" in text
    assert "size = [1, s, 1]" in text


def test_size_that_is_not_affine_is_refused() -> None:
    class Model(Tiny):
        def compute(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.zeros(x.shape[1] * x.shape[1]).sum()

    with pytest.raises(SparsecompError, match=r"size s\*\*2 is not of the form a \* s \+ b"):
        check(Model())


def test_unknown_op_is_named_with_its_module() -> None:
    class Model(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = nn.Hardshrink()

        def compute(self, x: torch.Tensor) -> torch.Tensor:
            return self.mixer(x)

    with pytest.raises(SparsecompError, match=r"^op aten\.hardshrink in mixer: not known"):
        check(Model())
