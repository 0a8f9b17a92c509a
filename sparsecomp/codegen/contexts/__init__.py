"""What the template of each kernel is given: read off its exec op.

The operation picks the function, by `CONTEXTS`; a template has the name of its operation.
"""

from __future__ import annotations

from xdsl.ir import Operation

from . import attention, dense, rows, sparse
from .scope import Context

CONTEXTS: dict[type[Operation], Context] = (
    dense.CONTEXTS | sparse.CONTEXTS | attention.CONTEXTS | rows.CONTEXTS
)
