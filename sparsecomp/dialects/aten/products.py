"""Matrix products, and what is made of them."""

from __future__ import annotations

from .operation import AtenOp, schema


@schema("embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1) -> Tensor")
class Embedding(AtenOp): ...


@schema("linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor")
class Linear(AtenOp): ...


@schema("matmul(Tensor self, Tensor other) -> Tensor")
class Matmul(AtenOp): ...


@schema("mm(Tensor self, Tensor mat2) -> Tensor")
class Mm(AtenOp): ...


@schema("bmm(Tensor self, Tensor mat2) -> Tensor")
class Bmm(AtenOp): ...


@schema("addmm(Tensor self, Tensor mat1, Tensor mat2, Scalar beta=1, Scalar alpha=1) -> Tensor")
class Addmm(AtenOp): ...


@schema(
    "baddbmm(Tensor self, Tensor batch1, Tensor batch2, Scalar beta=1, Scalar alpha=1) -> Tensor"
)
class Baddbmm(AtenOp): ...


@schema("einsum(str equation, Tensor[] tensors) -> Tensor")
class Einsum(AtenOp): ...


@schema("outer(Tensor self, Tensor vec2) -> Tensor")
class Outer(AtenOp): ...


@schema(
    "conv1d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[] stride=None, "
    "SymInt[] padding=None, SymInt[] dilation=None, SymInt groups=1) -> Tensor"
)
class Conv1d(AtenOp): ...


@schema(
    "scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, "
    "Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, float? scale=None, "
    "bool enable_gqa=False) -> Tensor"
)
class ScaledDotProductAttention(AtenOp): ...
