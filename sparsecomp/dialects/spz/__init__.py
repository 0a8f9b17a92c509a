"""spz: what a transformer is made of.

Values are rows of tokens, `tensor<?x9x64xf32>`: the first dimension counts tokens (`?` many, 1 in
the decode step), the rest is one token's share. Every op but attention treats each row alone, so
one definition serves a prompt, a decode step and, later, a batch. Weights are symbols. What has no
spz op stays an ATen call on rows.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from .attention import Attention, AttentionOp, CachedAttention, Rope
from .attributes import (
    Act,
    ActAttr,
    KVCacheType,
    Pairing,
    PairingAttr,
    Side,
    SideAttr,
    SparsityAttr,
)
from .dense import (
    AllReduce,
    Embed,
    ExpertLinear,
    GatedMlp,
    KeepingOp,
    Last,
    LayerNorm,
    Linear,
    LmHead,
    Mlp,
    RmsNorm,
)
from .operation import SpzOp
from .sparse import Neurons, Predict, Refine, Select, Sketch, SparseHead, SparseLinear, SparseMlp

__all__ = [
    "Act",
    "ActAttr",
    "AllReduce",
    "Attention",
    "AttentionOp",
    "CachedAttention",
    "Embed",
    "ExpertLinear",
    "GatedMlp",
    "KVCacheType",
    "KeepingOp",
    "Last",
    "LayerNorm",
    "Linear",
    "LmHead",
    "Mlp",
    "Neurons",
    "Pairing",
    "PairingAttr",
    "Predict",
    "Refine",
    "RmsNorm",
    "Rope",
    "Select",
    "Side",
    "SideAttr",
    "Sketch",
    "SparseHead",
    "SparseLinear",
    "SparseMlp",
    "SparsityAttr",
    "Spz",
    "SpzOp",
]

Spz = Dialect(
    "spz",
    [
        Embed,
        RmsNorm,
        LayerNorm,
        Linear,
        LmHead,
        Rope,
        Attention,
        CachedAttention,
        Mlp,
        GatedMlp,
        ExpertLinear,
        AllReduce,
        Last,
        Predict,
        Neurons,
        Select,
        SparseMlp,
        SparseLinear,
        Sketch,
        Refine,
        SparseHead,
    ],
    [ActAttr, PairingAttr, SideAttr, SparsityAttr, KVCacheType],
)
