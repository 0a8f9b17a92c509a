"""One model on its way through passes, code and packing, for each plan that is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.calibrate.calibration import CalibrationModel
from sparsecomp.codegen.account import bytes_per_token
from sparsecomp.codegen.triton import select
from sparsecomp.frontend.export import ExportedModel
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.options import CompileOptions, Device, Target
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.insert_predictors import choices_in
from sparsecomp.passes.pipeline import RAISING, Event, run_pipeline
from sparsecomp.passes.plan_memory import place_weights
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.runtime import artifact, launch
from sparsecomp.sparsify import Sparsified, Trial
from sparsecomp.sparsity import Choice

from .builder import Builder
from .lowered import LOWERINGS, Lowered
from .packer import Packer
from .weights import given_first


class Compiler:
    """One model: raised once, then lowered, built and packed for each plan tried."""

    def __init__(
        self,
        options: CompileOptions,
        model_dir: ModelDir,
        exported: ExportedModel,
        positions: int,
        given: Mapping[str, torch.Tensor],
        wider: tuple[str, ...],
    ):
        self.options = options
        self.wider = wider
        self.model_dir = model_dir
        self.exported = exported
        self.weights = given_first(given, exported.weights.get)
        self.positions = positions
        self._aten = ""
        self._builder = Builder(options, exported.facts.name, positions)
        self._packer = Packer(model_dir, exported, self.weights, positions, options.dtype)

    def raise_model(self, watch: Callable[[Event], None]) -> None:
        """From aten to spz, in place; `watch` sees each pass."""
        self._aten = str(self.exported.module)
        run_pipeline(
            self.exported.module, self._context(None), watch, self.options.stop_after, RAISING
        )

    def calibration_model(self) -> CalibrationModel:
        """The model as calibration sees it: @forward, whole."""
        return CalibrationModel(
            self.exported.facts.name,
            self.exported.module,
            self.weights,
            self.positions,
            self.options.dtype,
            self.wider,
            self.model_dir.identity(),
            self.model_dir.path / "tokenizer.json",
        )

    def lower(
        self,
        sparse: Sparsified | None,
        devices: tuple[Device, ...] = (Device.CPU,),
        watch: Callable[[Event], None] = lambda event: None,
        stop_after: str | None = None,
        ranks: int = 1,
    ) -> Lowered:
        """The scheduled programs for a plan (None: dense), those of all ranks; `watch` sees the
        first."""
        texts = {artifact.ir_member(artifact.Stage.ATEN): self._aten}
        choices: dict[str, Choice | None] = {}
        found: dict[Device, list[ModuleOp]] = {Device.CPU: [], Device.CUDA: []}
        for device, rank in [(device, rank) for device in devices for rank in range(ranks)]:
            module = self.exported.module.clone()
            first = device is devices[0]

            def look(event: Event, rank: int = rank, first: bool = first) -> None:
                if event.seconds is None and event.step.run.name == "insert-predictors":
                    choices.update(choices_in(event.module))
                if event.seconds is None and event.step.run.name == "choose-layouts":
                    texts[artifact.ir_member(artifact.Stage.SPZ, rank)] = str(event.module)
                if rank == 0 and first:
                    watch(event)

            context = self._context(sparse, rank, ranks, device)
            run_pipeline(module, context, look, stop_after, LOWERINGS[device])
            found[device].append(module)
        lowered = Lowered(found[Device.CPU], found[Device.CUDA], choices, texts)
        if stop_after is None:
            place_weights(lowered.all)
        for rank, module in enumerate(lowered.modules):
            texts[artifact.ir_member(artifact.Stage.EXEC, rank)] = str(module)
        for rank, module in enumerate(lowered.cuda):
            texts[artifact.ir_member(artifact.Stage.EXEC_CUDA, rank)] = str(module)
        return lowered

    def try_out(self, sparse: Sparsified | None, path: Path) -> Trial:
        """Write an artifact for this machine to `path`."""
        lowered = self.lower(sparse)
        self.write(lowered, sparse, path, (Target.NATIVE,), (), SilentObserver())
        return Trial(lowered.choices, sum(bytes_per_token(lowered.first).values()))

    def write(
        self,
        lowered: Lowered,
        sparse: Sparsified | None,
        path: Path,
        targets: tuple[Target, ...],
        codes: tuple[launch.Code, ...],
        observer: Observer,
    ) -> None:
        """Build the programs and write the artifact."""
        built = self._builder.build(lowered, targets, codes, observer)
        observer.stage("pack", str(path))
        self._packer.pack(path, lowered, built, sparse, observer)

    def _context(
        self,
        sparse: Sparsified | None,
        rank: int = 0,
        ranks: int = 1,
        device: Device = Device.CPU,
    ) -> PassContext:
        return PassContext(
            evaluate=evaluate,
            weights=self.weights,
            positions=self.positions,
            workers=self.options.workers,
            device=device,
            parts=select.parts,
            overlap=self.options.overlap,
            dtype=self.options.dtype,
            plan=None if sparse is None else sparse.plan,
            wider=self.wider,
            rank=rank,
            ranks=ranks,
        )
