"""The stages of a compile in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.options import CompileOptions
from sparsecomp.passes.pipeline import LOWERING, PIPELINE, RAISING
from sparsecomp.recipe import read_recipe
from sparsecomp.runtime import launch
from sparsecomp.sparsify import Sparsified, sparsify

from .checks import check_compilers, check_passes, devices_of, positions_of
from .compiler import Compiler
from .watcher import Watcher


@dataclass(frozen=True)
class CompileReport:
    """What a compile did. `ir` is set when it was asked to stop after a pass; `notes` are lines
    that the user should read."""

    pass_times: list[tuple[str, float]] = field(default_factory=list)
    ir: str | None = None
    notes: tuple[str, ...] = ()


def compile_model(
    options: CompileOptions,
    observer: Observer | None = None,
    sparse: Sparsified | None = None,
    given: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> CompileReport:
    """Compile a model directory into one artifact at `options.output`.

    `sparse` is a plan with its predictors, made elsewhere; without it `options.sparsity` says how
    to find one. `given` are weights by name, float32, taken in place of the checkpoint's. The
    artifact appears whole or not at all; an older one stays until then.

    Raises SparsecompError, in one line, for whatever is wrong with the model, the options or the
    machine.
    """
    observer = observer or SilentObserver()
    check_passes(options)
    if options.stop_after is None:
        check_compilers(options)

    observer.stage("export", str(options.model_dir))
    model_dir = ModelDir.open(options.model_dir)
    exported = export_model(model_dir)
    asked = options.sparsity
    recipe = None if asked is None or asked.recipe is None else read_recipe(asked.recipe)
    positions = positions_of(options, exported.facts)
    wider = () if recipe is None else recipe.wider
    compiler = Compiler(options, model_dir, exported, positions, given, wider)

    observer.stage("passes", f"{len(PIPELINE)} passes for {positions} positions")
    watcher = Watcher(options, observer)
    compiler.raise_model(watcher)
    if options.stop_after in {step.run.name for step in RAISING}:
        return CompileReport(watcher.times, str(exported.module))
    if sparse is None and asked is not None:
        model, output = compiler.calibration_model(), options.output
        sparse = sparsify(model, asked, recipe, output, compiler.try_out, observer)
        observer.stage("passes", f"{len(LOWERING)} passes")
    devices = devices_of(options)
    lowered = compiler.lower(sparse, devices, watcher, options.stop_after, options.shards)
    if options.stop_after is None:
        codes = tuple(launch.Code(f"sm_{target.arch}") for target in options.cuda_targets)
        compiler.write(lowered, sparse, options.output, options.cpu_targets, codes, observer)
    notes = () if sparse is None else sparse.notes
    ir = None if options.stop_after is None else str(lowered.first)
    return CompileReport(watcher.times, ir, notes)
