"""Programs, weights, tokenizer and manifest into an artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.codegen.pack import ArtifactWriter, weights_layout
from sparsecomp.codegen.storage import storage_bytes, stored_dtype, stored_shape
from sparsecomp.dialects import exec
from sparsecomp.frontend.export import ExportedModel
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.observer import Observer
from sparsecomp.options import Dtype
from sparsecomp.passes.base import Weights
from sparsecomp.passes.plan_memory import place_weights
from sparsecomp.runtime import artifact, state
from sparsecomp.sparsify import Sparsified

from .builder import Built
from .lowered import Lowered
from .manifest import manifest_of
from .weights import given_first, resolved


class Packer:
    """Writes the artifacts of one model. `weights` are those that the model declares."""

    def __init__(
        self,
        model_dir: ModelDir,
        exported: ExportedModel,
        weights: Weights,
        positions: int,
        dtype: Dtype,
    ):
        self.model_dir = model_dir
        self.exported = exported
        self.weights = weights
        self.positions = positions
        self.dtype = dtype

    def pack(
        self,
        path: Path,
        lowered: Lowered,
        built: Built,
        sparse: Sparsified | None,
        observer: Observer,
    ) -> None:
        """Write an artifact, and trust its code on this machine from now on."""
        storages = place_weights(lowered.all)
        plan = weights_layout(
            (op.sym_name.data, stored_dtype(op), stored_shape(op)) for op in storages
        )
        assert plan.offsets == {
            op.sym_name.data: op.offset.value.data  # type: ignore[union-attr]
            for op in storages
        }
        made = {} if sparse is None else sparse.weights(lowered.choices)
        manifest = manifest_of(
            self.exported,
            lowered,
            built,
            positions=self.positions,
            dtype=self.dtype,
            made=made,
            weights_bytes=plan.data_bytes,
        )
        stream = self._stream(lowered, storages, made, observer)
        with ArtifactWriter(path, expected_bytes=plan.member_bytes) as writer:
            hashes = self._add_small(writer, lowered, built, sparse)
            writer.add_stream(artifact.WEIGHTS, plan.member_bytes, plan.chunks(stream))
            writer.finish(manifest)
        for sha256 in hashes:
            state.remember_compiled(sha256)

    def _stream(
        self,
        lowered: Lowered,
        storages: list[exec.Storage],
        made: Mapping[str, torch.Tensor],
        observer: Observer,
    ) -> Iterator[tuple[str, memoryview]]:
        """The bytes of each storage by its name."""
        checkpoint = given_first(made, self.weights)
        weights = {m: resolved(m, checkpoint, self.positions) for m in lowered.all}
        for done, storage in enumerate(storages, start=1):
            of = storage.parent_op()
            assert isinstance(of, ModuleOp)
            yield storage.sym_name.data, storage_bytes(storage, weights[of])
            observer.progress(done, len(storages))

    def _add_small(
        self, writer: ArtifactWriter, lowered: Lowered, built: Built, sparse: Sparsified | None
    ) -> list[str]:
        """Add all members but the weights; the hashes of those that are code."""
        for member, text in lowered.texts.items():
            writer.add_bytes(member, f"{text}\n".encode())
        for rank, source in enumerate(built.sources):
            writer.add_bytes(artifact.source_member(rank), source.encode())
        hashes = [writer.add_bytes(p.facts.member, p.library) for p in built.programs]
        for member, data in (built.cuda or {}).items():
            sha256 = writer.add_bytes(member, data)
            if member in map(artifact.launch_member, range(lowered.ranks)):
                hashes.append(sha256)
        for file in self.model_dir.tokenizer_files:
            if (member := f"tokenizer/{file.name}") in artifact.MEMBER_NAMES:
                writer.add_bytes(member, file.read_bytes())
        if sparse is not None and sparse.record:
            writer.add_bytes(artifact.RECIPE, sparse.recipe.encode())
            writer.add_bytes(artifact.SPARSITY, sparse.record)
        return hashes
