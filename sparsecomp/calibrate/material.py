"""What a block's predictor learns from, out of what was recorded."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsecomp.dialects import spz
from sparsecomp.passes.blocks import AttentionBlock, Block, MlpBlock, source
from sparsecomp.reference.evaluate import Weights

from .bits import top
from .low_rank import First, Rows
from .recordings import Recordings


def neurons_material(
    recordings: Recordings,
    blocks: Sequence[Block],
    block: MlpBlock,
    weights: Weights,
    lookahead: int = 0,
) -> tuple[Rows, First]:
    """For the neurons of an MLP whose activation gives exact zeros: true is what is not 0.

    `weights` gives derived weights too. Raises ValueError for an MLP without exact zeros.
    """
    record = recordings.mlps[block.module]
    seen = recordings.mlps[source(blocks, block, lookahead).module]
    if record.inputs is None or record.labels is None or seen.inputs is None:
        raise ValueError(f"{block.module} has no exact zeros to learn from")
    op = block.op
    if isinstance(op, spz.GatedMlp):
        matrix, bias = op.gate, op.gate_bias
    else:
        matrix, bias = op.up, op.up_bias
    first = First(
        weights(matrix.string_value()),
        None if bias is None else weights(bias.string_value()),
        None if seen is record else record.inputs,
    )
    return Rows(seen.inputs, record.labels, block.units), first


def heads_material(
    recordings: Recordings,
    blocks: Sequence[Block],
    block: AttentionBlock,
    density: float,
    lookahead: int = 0,
) -> Rows:
    """For the heads of an attention: true are each token's `round(density * heads)` heads that
    add most to the output.
    """
    record = recordings.attentions[block.module]
    seen = recordings.attentions[source(blocks, block, lookahead).module]
    # Heads are few: all rows at once are some megabytes.
    labels: torch.Tensor = top(record.norms, density)
    return Rows(seen.inputs, labels, block.units)
