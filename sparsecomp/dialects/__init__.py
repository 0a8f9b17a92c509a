"""The languages of the compiler: aten (as exported), spz (a transformer), exec (a schedule)."""

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func

from .aten import Aten
from .exec import Exec
from .spz import Spz


def context() -> Context:
    """A context that can parse any stage's IR."""
    ctx = Context()
    for dialect in (Builtin, Func, Aten, Spz, Exec):
        ctx.load_dialect(dialect)
    return ctx


__all__ = ["Aten", "Exec", "Spz", "context"]
