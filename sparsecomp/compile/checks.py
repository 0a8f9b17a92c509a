"""What the options ask for, checked against the machine, the model and the passes."""

from __future__ import annotations

import importlib.util

from sparsecomp.codegen import build
from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.export import ModelFacts
from sparsecomp.options import CompileOptions, Device, Target
from sparsecomp.passes.pipeline import find_pass

from .lowered import LOWERINGS

DEFAULT_POSITIONS = 2048
"""Positions compiled for when neither the options nor the model set a limit."""


def check_passes(options: CompileOptions) -> None:
    """Raises SparsecompError for a pass that is named and does not exist."""
    for name in (*options.print_ir_before, *options.print_ir_after, options.stop_after):
        if name is not None:
            find_pass(name)


def check_compilers(options: CompileOptions) -> None:
    """Before anything that takes long. Raises SparsecompError saying what to install."""
    for target in options.cpu_targets:
        build.find_compiler(target, options.cxx)
    if options.sparsity is not None and options.sparsity.searches:
        try:
            build.find_compiler(Target.NATIVE, options.cxx)
        except SparsecompError as error:
            raise SparsecompError(
                f"a budget is kept by trying programs on this machine's CPU: {error}; "
                "--density and --recipe need none"
            ) from None
    if options.cuda_targets and importlib.util.find_spec("triton") is None:
        raise SparsecompError(
            f"--target {options.cuda_targets[0]} takes Triton: pip install 'sparsecomp[triton]'"
        )


def devices_of(options: CompileOptions) -> tuple[Device, ...]:
    """What to lower for; a pass to stop after may be only one's.

    Raises SparsecompError for a pass that no target needs.
    """
    given = ((Device.CPU, options.cpu_targets), (Device.CUDA, options.cuda_targets))
    devices = tuple(device for device, targets in given if targets)
    if options.stop_after is None:
        return devices
    for device in devices:
        if options.stop_after in {step.run.name for step in LOWERINGS[device]}:
            return (device,)
    raise SparsecompError(
        f"pass {options.stop_after} is not run for --target {' '.join(options.targets)}"
    )


def positions_of(options: CompileOptions, facts: ModelFacts) -> int:
    """What to compile for. Raises SparsecompError for more than the model was made for."""
    limit = facts.max_positions
    if options.context is None:
        return limit or DEFAULT_POSITIONS
    if limit is not None and options.context > limit:
        raise SparsecompError(
            f"context {options.context}: the model was made for at most {limit} positions"
        )
    return options.context
