"""The stages in order: the one place that knows them all."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from xdsl.dialects.builtin import ModuleOp

import sparsecomp
from sparsecomp.codegen import build, emit
from sparsecomp.codegen.account import (
    bytes_per_token,
    kv_bytes_per_position,
    logits_width,
    rewind_limit,
)
from sparsecomp.codegen.pack import ArtifactWriter, weights_layout
from sparsecomp.codegen.storage import storage_bytes
from sparsecomp.dialects import aten, exec
from sparsecomp.errors import SparsecompError
from sparsecomp.frontend.export import ExportedModel, ModelFacts, export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.options import CompileOptions
from sparsecomp.passes.base import PassContext, Weights
from sparsecomp.passes.pipeline import PIPELINE, Event, find_pass, run_pipeline
from sparsecomp.reference.evaluate import Derived, evaluate
from sparsecomp.runtime import artifact, state

DEFAULT_POSITIONS = 2048
"""Positions compiled for when neither the options nor the model set a limit."""


@dataclass(frozen=True)
class CompileReport:
    """What a compile did. `ir` is set when it was asked to stop after a pass."""

    pass_times: list[tuple[str, float]] = field(default_factory=list)
    ir: str | None = None


@dataclass(frozen=True)
class NativeProgram:
    """A program for one target, as the manifest describes it, and its library."""

    facts: artifact.Program
    library: bytes


def compile_model(options: CompileOptions, observer: Observer | None = None) -> CompileReport:
    """Compile a model directory into one artifact at `options.output`.

    The artifact appears whole or not at all; an older one stays until then.

    Raises SparsecompError, in one line, for whatever is wrong with the model, the options or the
    machine.
    """
    observer = observer or SilentObserver()
    _check_passes(options)
    if options.stop_after is None:
        compilers = [build.find_compiler(target, options.cxx) for target in options.targets]

    observer.stage("export", str(options.model_dir))
    model_dir = ModelDir.open(options.model_dir)
    exported = export_model(model_dir)
    module, positions = exported.module, _positions(options, exported.facts)

    observer.stage("passes", f"{len(PIPELINE)} passes for {positions} positions")
    watcher = _Watcher(options, observer)
    ctx = PassContext(
        evaluate=evaluate,
        weights=exported.weights.get,
        positions=positions,
        workers=options.workers,
        dtype=options.dtype,
    )
    texts = {artifact.Stage.ATEN: str(module)}
    run_pipeline(module, ctx, watcher, options.stop_after)
    if options.stop_after is not None:
        return CompileReport(watcher.times, str(module))
    texts[artifact.Stage.SPZ] = watcher.spz
    texts[artifact.Stage.EXEC] = str(module)

    source = emit.emit(module, exported.facts.name)
    programs = []
    for target, compiler in zip(options.targets, compilers, strict=True):
        observer.stage("native code", str(target))
        facts = artifact.Program(
            target=artifact.Target(target),
            machine=artifact.Machine(build.machine(target)),
            cpu_flags=build.cpu_flags(target, compiler),
            member=artifact.program_member(artifact.Target(target)),
            workers=options.workers,
            abi_version=artifact.ABI_VERSION,
        )
        programs.append(NativeProgram(facts, build.build(source, target, compiler)))

    observer.stage("pack", str(options.output))
    _pack(options, exported, model_dir, positions, texts, source, programs, observer)
    return CompileReport(watcher.times)


# ---- steps ----


def _check_passes(options: CompileOptions) -> None:
    for name in (*options.print_ir_before, *options.print_ir_after, options.stop_after):
        if name is not None:
            find_pass(name)


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
        self.spz = ""
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
        if name == "derive-decode":
            self.spz = str(event.module)


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


def _pack(
    options: CompileOptions,
    exported: ExportedModel,
    model_dir: ModelDir,
    positions: int,
    texts: dict[artifact.Stage, str],
    source: str,
    programs: list[NativeProgram],
    observer: Observer,
) -> None:
    module, facts = exported.module, exported.facts
    storages = [op for op in module.ops if isinstance(op, exec.Storage)]
    plan = weights_layout((op.sym_name.data, _dtype(op), _stored_shape(op)) for op in storages)
    assert plan.offsets == {
        op.sym_name.data: op.offset.value.data  # type: ignore[union-attr]
        for op in storages
    }
    weights = _resolve(module, exported.weights.get, positions)

    def stream():  # type: ignore[no-untyped-def]
        for done, storage in enumerate(storages, start=1):
            yield storage.sym_name.data, storage_bytes(storage, weights)
            observer.progress(done, len(storages))

    manifest = artifact.Manifest(
        compiler_version=sparsecomp.__version__,
        model=artifact.ModelFacts(
            name=facts.name,
            vocab_size=logits_width(module),
            context=positions,
            layers=facts.layers,
            hidden=facts.hidden_size,
            parameters=sum(_numel(op) for op in module.ops if isinstance(op, aten.Weight)),
            dtype=artifact.Dtype(options.dtype),
            eos_token_ids=facts.eos_ids,
            bos_token_id=facts.bos_ids[0] if facts.bos_ids else None,
            rewind_limit=rewind_limit(module, positions),
        ),
        programs=tuple(program.facts for program in programs),
        bytes_per_token=bytes_per_token(module),
        kv_bytes_per_position=kv_bytes_per_position(module),
        weights_bytes=plan.data_bytes,
    )
    with ArtifactWriter(options.output, expected_bytes=plan.member_bytes) as writer:
        for stage, text in texts.items():
            writer.add_bytes(artifact.ir_member(stage), f"{text}\n".encode())
        writer.add_bytes(artifact.SOURCE, source.encode())
        hashes = [writer.add_bytes(p.facts.member, p.library) for p in programs]
        for file in model_dir.tokenizer_files:
            if (member := f"tokenizer/{file.name}") in artifact.MEMBER_NAMES:
                writer.add_bytes(member, file.read_bytes())
        writer.add_stream(artifact.WEIGHTS, plan.member_bytes, plan.chunks(stream()))
        writer.finish(manifest)
    for sha256 in hashes:
        state.remember_compiled(sha256)


def _dtype(storage: exec.Storage) -> str:
    return "BF16" if storage.item == 2 else "F32"


def _stored_shape(storage: exec.Storage) -> tuple[int, ...]:
    if storage.layout.data is exec.Layout.NEURON_MAJOR:
        return storage.dims[0], sum(storage.part_bytes) // storage.item
    return storage.dims


def _numel(weight: aten.Weight) -> int:
    return functools.reduce(lambda a, b: a * b, weight.type.get_shape(), 1)
