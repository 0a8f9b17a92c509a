"""The stages in order: the one place that knows them all."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from xdsl.dialects.builtin import ModuleOp, TensorType

import sparsecomp
from sparsecomp.calibrate.calibration import CalibrationModel
from sparsecomp.codegen import build, emit
from sparsecomp.codegen.account import (
    blocks,
    bytes_per_token,
    kv_bytes_per_position,
    logits_width,
    rewind_limit,
)
from sparsecomp.codegen.counters import counters
from sparsecomp.codegen.pack import ArtifactWriter, weights_layout
from sparsecomp.codegen.storage import storage_bytes
from sparsecomp.codegen.triton import select
from sparsecomp.dialects import aten, exec
from sparsecomp.dialects.reads import Reading
from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.export import ExportedModel, ModelFacts, export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.options import CompileOptions, Device, Target
from sparsecomp.passes.base import PassContext, Weights, function
from sparsecomp.passes.insert_predictors import choices_in
from sparsecomp.passes.pipeline import (
    CUDA_LOWERING,
    LOWERING,
    PIPELINE,
    RAISING,
    Event,
    find_pass,
    run_pipeline,
)
from sparsecomp.passes.plan_memory import place_weights
from sparsecomp.recipe import Recipe, read_recipe
from sparsecomp.reference.evaluate import Derived, evaluate
from sparsecomp.runtime import artifact, launch, state
from sparsecomp.sparsify import Sparsified, Trial, sparsify
from sparsecomp.sparsity import Choice

LOWERINGS = {Device.CPU: LOWERING, Device.CUDA: CUDA_LOWERING}
DEFAULT_POSITIONS = 2048
"""Positions compiled for when neither the options nor the model set a limit."""


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
    _check_passes(options)
    if options.stop_after is None:
        _check_compilers(options)
        if options.cuda_targets and importlib.util.find_spec("triton") is None:
            raise SparsecompError(
                f"--target {options.cuda_targets[0]} takes Triton: pip install 'sparsecomp[triton]'"
            )

    observer.stage("export", str(options.model_dir))
    model_dir = ModelDir.open(options.model_dir)
    exported = export_model(model_dir)
    recipe = _recipe(options)
    wider = () if recipe is None else recipe.wider
    compiler = _Compiler(options, model_dir, exported, given, wider)

    observer.stage("passes", f"{len(PIPELINE)} passes for {compiler.positions} positions")
    watcher = _Watcher(options, observer)
    compiler.raise_model(watcher)
    if options.stop_after in {step.run.name for step in RAISING}:
        return CompileReport(watcher.times, str(exported.module))
    if sparse is None and options.sparsity is not None:
        sparse = sparsify(
            compiler.calibration_model(),
            options.sparsity,
            recipe,
            options.output,
            compiler.try_out,
            observer,
        )
        observer.stage("passes", f"{len(LOWERING)} passes")
    devices = _devices(options)
    lowered = compiler.lower(sparse, devices, watcher, options.stop_after, options.shards)
    if options.stop_after is None:
        codes = tuple(launch.Code(f"sm_{target.arch}") for target in options.cuda_targets)
        compiler.write(lowered, sparse, options.output, options.cpu_targets, codes, observer)
    notes = () if sparse is None else sparse.notes
    ir = None if options.stop_after is None else str(lowered.first)
    return CompileReport(watcher.times, ir, notes)


@dataclass(frozen=True)
class _Lowered:
    """The modules after the passes, each rank's for CPUs and one for GPUs, what the model's blocks
    became, and the texts of the stages by their members' names."""

    modules: list[ModuleOp]
    cuda: ModuleOp | None
    choices: Mapping[str, Choice | None]
    texts: dict[str, str]

    @property
    def ranks(self) -> int:
        return max(len(self.modules), 1)

    @property
    def all(self) -> list[ModuleOp]:
        return [*self.modules, *([] if self.cuda is None else [self.cuda])]

    @property
    def first(self) -> ModuleOp:
        """The one that speaks for the model; they all read the same weights."""
        return self.all[0]


@dataclass(frozen=True)
class _NativeProgram:
    """A program for one target, as the manifest describes it, and its library."""

    facts: artifact.Program
    library: bytes


class _Compiler:
    """One model on its way: raised once, then lowered, built and packed for each plan tried."""

    def __init__(
        self,
        options: CompileOptions,
        model_dir: ModelDir,
        exported: ExportedModel,
        given: Mapping[str, torch.Tensor],
        wider: tuple[str, ...],
    ):
        self.options = options
        self.wider = wider
        self.model_dir = model_dir
        self.exported = exported
        self.weights = _given_first(given, exported.weights.get)
        self.positions = _positions(options, exported.facts)
        self._aten = ""
        self._programs: dict[tuple[str, Target], _NativeProgram] = {}

    def raise_model(self, watch: Callable[[Event], None]) -> None:
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
    ) -> _Lowered:
        """The scheduled programs for a plan (None: dense), on CPUs those of all ranks; `watch` sees
        the first."""
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
        lowered = _Lowered(found[Device.CPU], next(iter(found[Device.CUDA]), None), choices, texts)
        if stop_after is None:
            place_weights(lowered.all)
        for rank, module in enumerate(lowered.modules):
            texts[artifact.ir_member(artifact.Stage.EXEC, rank)] = str(module)
        if lowered.cuda is not None:
            texts[artifact.ir_member(artifact.Stage.EXEC_CUDA)] = str(lowered.cuda)
        return lowered

    def try_out(self, sparse: Sparsified | None, path: Path) -> Trial:
        """Write an artifact for this machine to `path`."""
        lowered = self.lower(sparse)
        self.write(lowered, sparse, path, (Target.NATIVE,), (), SilentObserver())
        return Trial(lowered.choices, sum(bytes_per_token(lowered.first).values()))

    def write(
        self,
        lowered: _Lowered,
        sparse: Sparsified | None,
        path: Path,
        targets: tuple[Target, ...],
        codes: tuple[launch.Code, ...],
        observer: Observer,
    ) -> None:
        sources = [emit.emit(module, self.exported.facts.name) for module in lowered.modules]
        programs = []
        for rank, source in enumerate(sources):
            for target in targets:
                of = f" for rank {rank} of {lowered.ranks}" if lowered.ranks > 1 else ""
                observer.stage("native code", f"{target}{of}")
                programs.append(self._program(source, target, rank))
        cuda = None if lowered.cuda is None else self._cuda_members(lowered.cuda, codes, observer)
        observer.stage("pack", str(path))
        self._pack(lowered, sparse, path, sources, programs, cuda, observer)

    def _cuda_members(
        self, module: ModuleOp, codes: tuple[launch.Code, ...], observer: Observer
    ) -> Mapping[str, bytes]:
        """The members of a GPU program by name."""
        from sparsecomp.codegen.triton import program  # takes Triton

        observer.stage("GPU code", ", ".join((*codes, launch.Code.PTX)))
        built = program.build_program(
            module, self.positions, codes, program.compile_kernel, observer.progress
        )
        return built.members

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

    def _program(self, source: str, target: Target, rank: int) -> _NativeProgram:
        """The source built for a target; a source that was built is not built again."""
        if (source, target) not in self._programs:
            compiler = build.find_compiler(target, self.options.cxx)
            facts = artifact.Program(
                target=artifact.Target(target),
                machine=artifact.Machine(build.machine(target)),
                cpu_flags=build.cpu_flags(target, compiler),
                member=artifact.program_member(artifact.Target(target), rank),
                workers=self.options.workers,
                abi_version=artifact.ABI_VERSION,
                rank=rank,
            )
            library = build.build(source, target, compiler)
            self._programs[source, target] = _NativeProgram(facts, library)
        return self._programs[source, target]

    def _pack(
        self,
        lowered: _Lowered,
        sparse: Sparsified | None,
        path: Path,
        sources: list[str],
        programs: list[_NativeProgram],
        cuda: Mapping[str, bytes] | None,
        observer: Observer,
    ) -> None:
        module, facts = lowered.first, self.exported.facts
        storages = place_weights(lowered.all)
        plan = weights_layout((op.sym_name.data, _dtype(op), _stored_shape(op)) for op in storages)
        assert plan.offsets == {
            op.sym_name.data: op.offset.value.data  # type: ignore[union-attr]
            for op in storages
        }
        predictors = {} if sparse is None else sparse.weights(lowered.choices)
        checkpoint = _given_first(predictors, self.weights)
        weights = {m: _resolve(m, checkpoint, self.positions) for m in lowered.all}

        def stream() -> Iterator[tuple[str, memoryview]]:
            for done, storage in enumerate(storages, start=1):
                of = storage.parent_op()
                assert isinstance(of, ModuleOp)
                yield storage.sym_name.data, storage_bytes(storage, weights[of])
                observer.progress(done, len(storages))

        declared = (op for op in module.ops if isinstance(op, aten.Weight))
        vocabulary = _vocabulary(self.exported.module)
        shards = _shards(lowered.modules, vocabulary) if lowered.ranks > 1 else ()
        counted = counters(module)
        manifest = artifact.Manifest(
            compiler_version=sparsecomp.__version__,
            model=artifact.ModelFacts(
                name=facts.name,
                vocab_size=vocabulary,
                context=self.positions,
                layers=facts.layers,
                hidden=facts.hidden_size,
                parameters=sum(_numel(op) for op in declared if op.sym_name.data not in predictors),
                dtype=artifact.Dtype(self.options.dtype),
                eos_token_ids=facts.eos_ids,
                bos_token_id=facts.bos_ids[0] if facts.bos_ids else None,
                rewind_limit=_rewind_limit(lowered.all, self.positions),
            ),
            programs=tuple(program.facts for program in programs),
            bytes_per_token=bytes_per_token(module),
            dense_bytes_per_token=bytes_per_token(module, Reading.DENSE),
            fixed_bytes_per_token=bytes_per_token(module, Reading.FIXED),
            blocks=blocks(module),
            counters=counted.count,
            trace_slots=counted.trace_slots,
            kv_bytes_per_position=kv_bytes_per_position(module),
            weights_bytes=plan.data_bytes,
            cuda=None if cuda is None else _cuda_facts(cuda),
            shards=shards,
        )
        with ArtifactWriter(path, expected_bytes=plan.member_bytes) as writer:
            for member, text in lowered.texts.items():
                writer.add_bytes(member, f"{text}\n".encode())
            for rank, source in enumerate(sources):
                writer.add_bytes(artifact.source_member(rank), source.encode())
            hashes = [writer.add_bytes(p.facts.member, p.library) for p in programs]
            for member, data in (cuda or {}).items():
                sha256 = writer.add_bytes(member, data)
                if member == launch.PROGRAM:
                    hashes.append(sha256)
            for file in self.model_dir.tokenizer_files:
                if (member := f"tokenizer/{file.name}") in artifact.MEMBER_NAMES:
                    writer.add_bytes(member, file.read_bytes())
            if sparse is not None and sparse.record:
                writer.add_bytes(artifact.RECIPE, sparse.recipe.encode())
                writer.add_bytes(artifact.SPARSITY, sparse.record)
            writer.add_stream(artifact.WEIGHTS, plan.member_bytes, plan.chunks(stream()))
            writer.finish(manifest)
        for sha256 in hashes:
            state.remember_compiled(sha256)


# ---- steps ----


def _recipe(options: CompileOptions) -> Recipe | None:
    if options.sparsity is None or options.sparsity.recipe is None:
        return None
    return read_recipe(options.sparsity.recipe)


def _devices(options: CompileOptions) -> tuple[Device, ...]:
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


def _cuda_facts(members: Mapping[str, bytes]) -> artifact.CudaProgram:
    program = launch.parse_program(members[launch.PROGRAM])
    return artifact.CudaProgram(tuple(program.drivers), launch.LAUNCH_VERSION)


def _rewind_limit(modules: list[ModuleOp], positions: int) -> int | None:
    """What all programs can go back to."""
    limits = [rewind_limit(module, positions) for module in modules]
    return min((limit for limit in limits if limit is not None), default=None)


def _check_passes(options: CompileOptions) -> None:
    for name in (*options.print_ir_before, *options.print_ir_after, options.stop_after):
        if name is not None:
            find_pass(name)


def _check_compilers(options: CompileOptions) -> None:
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


def _positions(options: CompileOptions, facts: ModelFacts) -> int:
    limit = facts.max_positions
    if options.context is None:
        return limit or DEFAULT_POSITIONS
    if limit is not None and options.context > limit:
        raise SparsecompError(
            f"context {options.context}: the model was made for at most {limit} positions"
        )
    return options.context


class _Watcher:
    """What the options want to see of the pipeline."""

    def __init__(self, options: CompileOptions, observer: Observer):
        self.options = options
        self.observer = observer
        self.times: list[tuple[str, float]] = []
        if options.dump_dir is not None:
            options.dump_dir.mkdir(parents=True, exist_ok=True)

    def __call__(self, event: Event) -> None:
        name = event.step.run.name
        if event.seconds is None:
            if name in self.options.print_ir_before:
                self.observer.ir(str(event.module), name, "before")
            return
        self.times.append((name, event.seconds))
        self.observer.progress(event.number, len(PIPELINE))
        if name in self.options.print_ir_after:
            self.observer.ir(str(event.module), name, "after")
        if self.options.dump_dir is not None:
            file = self.options.dump_dir / f"{event.number:02}-{name}.mlir"
            file.write_text(f"{event.module}\n")


def _resolve(module: ModuleOp, checkpoint: Weights, positions: int) -> Weights:
    """Weights of the checkpoint, and derived ones, by name."""
    derived = {op.sym_name.data: op for op in module.ops if isinstance(op, aten.Derived)}

    def get(name: str) -> torch.Tensor:
        if name not in derived:
            return checkpoint(name)
        result = derived[name].body.block.last_op
        assert isinstance(result, aten.Yield)
        (value,) = evaluate(
            [result.value],
            {},
            length=positions,
            weights=checkpoint,
            derived=Derived(positions),
        )
        return value

    return get


def _given_first(given: Mapping[str, torch.Tensor], checkpoint: Weights) -> Weights:
    """Weights that were made, then those of the checkpoint."""

    def get(name: str) -> torch.Tensor:
        return given[name] if name in given else checkpoint(name)

    return get


def _vocabulary(forward: ModuleOp) -> int:
    """The size of the vocabulary that the model scores."""
    (scores,) = function(forward, "forward").function_type.outputs
    assert isinstance(scores, TensorType)
    return scores.get_shape()[-1]


def _shards(modules: list[ModuleOp], vocabulary: int) -> tuple[artifact.Shard, ...]:
    """What the manifest says of each rank's program."""
    widths = [logits_width(module) for module in modules]
    is_split = sum(widths) == vocabulary
    shards = []
    for rank, module in enumerate(modules):
        counted = counters(module)
        shards.append(
            artifact.Shard(
                first_token=sum(widths[:rank]) if is_split else 0,
                logits=widths[rank],
                bytes_per_token=bytes_per_token(module),
                dense_bytes_per_token=bytes_per_token(module, Reading.DENSE),
                fixed_bytes_per_token=bytes_per_token(module, Reading.FIXED),
                blocks=blocks(module),
                counters=counted.count,
                trace_slots=counted.trace_slots,
                kv_bytes_per_position=kv_bytes_per_position(module),
            )
        )
    return tuple(shards)


def _dtype(storage: exec.Storage) -> str:
    return "U8" if storage.quantised else "BF16" if storage.bits == 16 else "F32"


def _stored_shape(storage: exec.Storage) -> tuple[int, ...]:
    if storage.quantised:
        return (storage.bytes,)
    if storage.layout.data is exec.Layout.NEURON_MAJOR:
        return storage.dims[0], sum(storage.part_bytes) * 8 // storage.bits
    if storage.layout.data is exec.Layout.COLUMNS:
        return storage.dims[::-1]
    return storage.dims


def _numel(weight: aten.Weight) -> int:
    return functools.reduce(lambda a, b: a * b, weight.type.get_shape(), 1)
