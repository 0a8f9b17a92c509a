"""An artifact with sparse blocks and a record, around no program at all."""

from __future__ import annotations

import platform
from pathlib import Path

from sparsecomp.codegen.pack import ArtifactWriter, weights_layout
from sparsecomp.runtime import artifact as layout
from sparsecomp.runtime.artifact import Block, BlockKind, Part
from sparsecomp.runtime.record import (
    Attempt,
    BlockRecord,
    CurvePoint,
    Ratio,
    Record,
    Split,
    TextSource,
    encode_record,
)
from sparsecomp.sparsity import LowRank

CHOICE = LowRank(rank=8, density=0.25, active=0.125)
RECIPE = "layers.0.mlp: dense\n"


def _block(layer: int) -> BlockRecord:
    sparse = layer > 0
    return BlockRecord(
        module=f"layers.{layer}.mlp",
        kind=BlockKind.MLP,
        units=64,
        choice=CHOICE if sparse else None,
        density=0.25 if sparse else 1.0,
        recall=0.9375 if sparse else None,
        precision=0.5625 if sparse else None,
        dense_bytes=8000,
        sparse_bytes=3000 if sparse else 8000,
        cost=0.002 if sparse else 0.0,
        options=(),
    )


RECORD = Record(
    model="toy <1>",
    budget=0.01,
    measured=Ratio(1.0044, 1.0011, 1.0077),
    dense_because=None,
    seed=7,
    texts=(TextSource("essays.txt", "ab" * 32),),
    tokens={Split.TRAIN: 1000, Split.SEARCH: 300},
    blocks=tuple(map(_block, range(3))),
    curve=(CurvePoint(0.0, 26000), CurvePoint(0.004, 16000)),
    attempts=(Attempt(0.008, Ratio(1.02, 1.015, 1.025), False),),
)

MANIFEST = layout.Manifest(
    compiler_version="0.1.0",
    model=layout.ModelFacts(
        name="toy <1>",
        vocab_size=26,
        context=100,
        layers=3,
        hidden=8,
        parameters=12345,
        dtype=layout.Dtype.BF16,
        eos_token_ids=(25,),
        bos_token_id=None,
        rewind_limit=None,
    ),
    programs=(
        layout.Program(
            target=layout.Target.NATIVE,
            machine=layout.Machine(platform.machine()),
            cpu_flags=(),
            member=layout.program_member(layout.Target.NATIVE),
            workers=2,
            abi_version=layout.ABI_VERSION,
        ),
    ),
    bytes_per_token={Part.MLP: 12000, Part.PREDICTORS: 2000, Part.HEAD: 2000},
    dense_bytes_per_token={Part.MLP: 24000, Part.PREDICTORS: 0, Part.HEAD: 2000},
    fixed_bytes_per_token={Part.MLP: 8000, Part.PREDICTORS: 2000, Part.HEAD: 2000},
    blocks=tuple(
        Block(
            module=f"layers.{layer}.mlp",
            kind=BlockKind.MLP,
            units=64,
            density=0.25,
            active=0.125,
            chosen_bytes=60,
            active_bytes=65,
            predictor_bytes=1000,
            chosen_counter=2 * layer,
            active_counter=2 * layer + 1,
            trace=65 * (layer - 1),
        )
        for layer in (1, 2)
    ),
    counters=6,
    trace_slots=130,
    kv_bytes_per_position=48,
    weights_bytes=8,
)


def write_artifact(path: Path, record: Record | None = RECORD) -> Path:
    weights = weights_layout([("w", "F32", (2,))])
    with ArtifactWriter(path) as writer:
        for stage in (layout.Stage.ATEN, layout.Stage.SPZ, layout.Stage.EXEC):
            writer.add_bytes(layout.ir_member(stage), b"//\n")
        writer.add_bytes(layout.SOURCE, b"//\n")
        writer.add_bytes(layout.program_member(layout.Target.NATIVE), b"no program")
        writer.add_stream(layout.WEIGHTS, weights.member_bytes, weights.chunks([("w", bytes(8))]))
        if record is not None:
            writer.add_bytes(layout.SPARSITY, encode_record(record))
            writer.add_bytes(layout.RECIPE, RECIPE.encode())
        writer.finish(MANIFEST)
    return path
