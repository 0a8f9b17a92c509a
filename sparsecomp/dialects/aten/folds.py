"""Calls along a dimension."""

from __future__ import annotations

from .operation import AtenOp, schema


@schema(
    "sum.dim_IntList(Tensor self, int[]? dim, bool keepdim=False, ScalarType? dtype=None) -> Tensor"
)
class Sum(AtenOp): ...


@schema("mean.dim(Tensor self, int[]? dim, bool keepdim=False, ScalarType? dtype=None) -> Tensor")
class Mean(AtenOp): ...


@schema(
    "var.correction(Tensor self, int[]? dim=None, Scalar? correction=None, "
    "bool keepdim=False) -> Tensor"
)
class Var(AtenOp): ...


@schema("var.dim(Tensor self, int[]? dim, bool unbiased=True, bool keepdim=False) -> Tensor")
class VarDim(AtenOp): ...


@schema("amax(Tensor self, int[] dim=None, bool keepdim=False) -> Tensor")
class Amax(AtenOp): ...


@schema("amin(Tensor self, int[] dim=None, bool keepdim=False) -> Tensor")
class Amin(AtenOp): ...


@schema("all(Tensor self) -> Tensor")
class All(AtenOp): ...


@schema("any(Tensor self) -> Tensor")
class Any(AtenOp): ...


@schema(
    "linalg_vector_norm(Tensor self, Scalar ord=2, int[]? dim=None, bool keepdim=False, "
    "ScalarType? dtype=None) -> Tensor"
)
class LinalgVectorNorm(AtenOp): ...


@schema("norm.ScalarOpt_dim(Tensor self, Scalar? p, int[] dim, bool keepdim=False) -> Tensor")
class Norm(AtenOp): ...


@schema("cumsum(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
class Cumsum(AtenOp): ...


@schema(
    "diff(Tensor self, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None) -> Tensor"
)
class Diff(AtenOp): ...


@schema("softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
class Softmax(AtenOp): ...


@schema("_softmax(Tensor self, int dim, bool half_to_float) -> Tensor")
class SoftmaxInternal(AtenOp): ...


@schema("log_softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
class LogSoftmax(AtenOp): ...


@schema("tril(Tensor self, int diagonal=0) -> Tensor")
class Tril(AtenOp): ...


@schema("triu(Tensor self, int diagonal=0) -> Tensor")
class Triu(AtenOp): ...


@schema(
    "topk(Tensor self, SymInt k, int dim=-1, bool largest=True, "
    "bool sorted=True) -> (Tensor values, Tensor indices)"
)
class Topk(AtenOp): ...


@schema("sort(Tensor self, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)")
class Sort(AtenOp): ...


@schema("gather(Tensor self, int dim, Tensor index) -> Tensor")
class Gather(AtenOp): ...


@schema("scatter.value(Tensor self, int dim, Tensor index, Scalar value) -> Tensor")
class ScatterValue(AtenOp): ...


@schema("max.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)")
class MaxDim(AtenOp): ...


@schema("logsumexp(Tensor self, int[] dim, bool keepdim=False) -> Tensor")
class Logsumexp(AtenOp): ...


@schema("index.Tensor(Tensor self, Tensor?[] indices) -> Tensor")
class Index(AtenOp): ...


@schema(
    "layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, "
    "Tensor? bias=None, float eps=1.0e-05) -> Tensor"
)
class LayerNorm(AtenOp): ...


@schema(
    "rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, "
    "float? eps=None) -> Tensor"
)
class RmsNorm(AtenOp): ...
