"""An ahead-of-time compiler from decoder-only language models to native programs.

`sparsecomp.compile_model(options)` compiles a model directory and `sparsecomp.load(path)` runs the
artifact. Both are found on first use: importing the package imports nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsecomp.compile import compile_model
    from sparsecomp.errors import SparsecompError
    from sparsecomp.options import CompileOptions
    from sparsecomp.runtime import load

__version__ = "0.1.0"
__all__ = ["CompileOptions", "SparsecompError", "__version__", "compile_model", "load"]

_HOMES = {
    "CompileOptions": "sparsecomp.options",
    "SparsecompError": "sparsecomp.errors",
    "compile_model": "sparsecomp.compile",
    "load": "sparsecomp.runtime",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
