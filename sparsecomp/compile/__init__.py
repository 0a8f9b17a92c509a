"""From a model directory to an artifact: the one place that knows all the stages."""

from .stages import CompileReport, compile_model

__all__ = ["CompileReport", "compile_model"]
