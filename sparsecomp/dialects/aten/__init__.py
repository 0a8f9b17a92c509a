"""aten: the exported graph, one op per torch call, nothing model-specific.

Each class is one ATen overload; its line is the part of torch's own schema that carries meaning.
Values are `tensor<1x?x64xf32>`: batch 1, `?` is the sequence length `s`. Weights enter by symbol.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from sparsecomp.dialects import schema as _schema
from sparsecomp.dialects.schema import CallOp

# Every op of these files is one of the dialect's.
from .creation import *
from .elementwise import *
from .folds import *
from .moves import *
from .operation import AtenOp as AtenOp
from .operation import Creation as Creation
from .operation import Elementwise as Elementwise
from .operation import Structural as Structural
from .products import *
from .symbols import Derived as Derived
from .symbols import Get as Get
from .symbols import Weight as Weight
from .symbols import Yield as Yield

CALLS: dict[str, type[CallOp]] = {
    op.name: op
    for op in tuple(globals().values())
    if isinstance(op, type) and issubclass(op, CallOp) and hasattr(op, "ARGS")
}

Aten = Dialect("aten", [Weight, Derived, Yield, Get, *CALLS.values()], [_schema.DimAttr])
