"""Calls that make positions and constants."""

from __future__ import annotations

from .operation import Creation, schema


@schema("arange(Scalar end, ScalarType? dtype=None) -> Tensor")
class Arange(Creation): ...


@schema("arange.start(Scalar start, Scalar end, ScalarType? dtype=None) -> Tensor")
class ArangeStart(Creation): ...


@schema(
    "arange.start_step(Scalar start, Scalar end, Scalar step=1, ScalarType? dtype=None) -> Tensor"
)
class ArangeStep(Creation): ...


@schema("zeros(SymInt[] size, ScalarType? dtype=None) -> Tensor")
class Zeros(Creation): ...


@schema("ones(SymInt[] size, ScalarType? dtype=None) -> Tensor")
class Ones(Creation): ...


@schema("full(SymInt[] size, Scalar fill_value, ScalarType? dtype=None) -> Tensor")
class Full(Creation): ...


@schema("scalar_tensor(Scalar s, ScalarType? dtype=None) -> Tensor")
class ScalarTensor(Creation): ...


@schema("linspace(Scalar start, Scalar end, int steps, ScalarType? dtype=None) -> Tensor")
class Linspace(Creation): ...


@schema("zeros_like(Tensor self, ScalarType? dtype=None) -> Tensor")
class ZerosLike(Creation): ...


@schema("ones_like(Tensor self, ScalarType? dtype=None) -> Tensor")
class OnesLike(Creation): ...


@schema("full_like(Tensor self, Scalar fill_value, ScalarType? dtype=None) -> Tensor")
class FullLike(Creation): ...


@schema("new_zeros(Tensor self, SymInt[] size, ScalarType? dtype=None) -> Tensor")
class NewZeros(Creation): ...


@schema("new_ones(Tensor self, SymInt[] size, ScalarType? dtype=None) -> Tensor")
class NewOnes(Creation): ...


@schema("new_full(Tensor self, SymInt[] size, Scalar fill_value, ScalarType? dtype=None) -> Tensor")
class NewFull(Creation): ...
