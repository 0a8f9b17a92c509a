"""The page: figures of an artifact's manifest and record, charts, tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sparsecomp.runtime.artifact import Artifact, Block, BlockKind, Manifest
from sparsecomp.runtime.record import BlockRecord, Record
from sparsecomp.sparsity import Choice, Narrow, kind_of

from .charts import (
    Axis,
    Bars,
    Marker,
    Plot,
    Point,
    Series,
    axis_to,
    bars,
    counting_axis,
    percent_axis,
    plot,
)

KINDS = {BlockKind.MLP: "MLP", BlockKind.ATTENTION: "attention", BlockKind.HEAD: "head"}
MARKERS = {
    BlockKind.MLP: Marker.DISC,
    BlockKind.ATTENTION: Marker.SQUARE,
    BlockKind.HEAD: Marker.CROSS,
}


@dataclass(frozen=True)
class Row:
    """A block: `layer` counts the blocks of its kind. Bytes are expected, for one token."""

    module: str
    kind: BlockKind
    layer: int
    choice: str
    density: float
    recall: float | None
    precision: float | None
    dense_bytes: int
    sparse_bytes: int
    cost: float | None


def render(artifact: Artifact) -> str:
    """One self-contained HTML page about an artifact's sparsity.

    Raises SparsecompError when its record is not sound.
    """
    manifest, record = artifact.manifest, artifact.read_record()
    rows = block_rows(manifest, record)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "" if share is None else f"{share:.1%}"
    environment.filters["megabytes"] = megabytes
    return environment.get_template("page.html.jinja").render(
        model=manifest.model,
        compiler=manifest.compiler_version,
        record=record,
        rows=rows,
        kinds=KINDS,
        dense=sum(manifest.dense_bytes_per_token.values()),
        expected=sum(manifest.bytes_per_token.values()),
        density=_density(rows),
        quality=_quality(rows),
        parts=_parts(manifest),
        curve=_curve(manifest, record),
    )


def block_rows(manifest: Manifest, record: Record | None) -> list[Row]:
    """The blocks in order: all that the record knows, or without one the sparse ones."""
    layers = {kind: itertools.count() for kind in BlockKind}
    if record is None:
        return [_declared(block, next(layers[block.kind])) for block in manifest.blocks]
    return [_recorded(block, next(layers[block.kind])) for block in record.blocks]


def _recorded(block: BlockRecord, layer: int) -> Row:
    return Row(
        block.module,
        block.kind,
        layer,
        _named(block.choice),
        block.density,
        block.recall,
        block.precision,
        block.dense_bytes,
        block.sparse_bytes,
        block.cost,
    )


def _named(choice: Choice | None) -> str:
    if choice is None:
        return "dense"
    if isinstance(choice, Narrow):
        keys = f", {choice.key_value_bits}" if choice.key_value_bits else ""
        return f"narrow, {choice.bits}{keys} and {choice.output_bits} bits"
    return kind_of(choice).replace("_", " ")


def _declared(block: Block, layer: int) -> Row:
    """What a manifest alone tells: nothing about bytes that do not depend on the choice."""
    unit = block.density * block.chosen_bytes + block.active * block.active_bytes
    return Row(
        block.module,
        block.kind,
        layer,
        "sparse",
        block.density,
        None,
        None,
        block.units * (block.chosen_bytes + block.active_bytes),
        round(block.units * unit) + block.predictor_bytes,
        None,
    )


def _layer_axis(rows: Sequence[Row]) -> Axis:
    return counting_axis("layer", max(row.layer for row in rows))


def _density(rows: Sequence[Row]) -> Plot | None:
    if not rows:
        return None
    series = [
        Series(
            KINDS[kind],
            MARKERS[kind],
            [
                Point(row.layer, row.density, f"{row.module}: {row.density:.1%} chosen")
                for row in rows
                if row.kind is kind
            ],
            dashed=kind is BlockKind.ATTENTION,
        )
        for kind in BlockKind
    ]
    return plot(
        "Share of units a token is expected to choose, by layer",
        _layer_axis(rows),
        percent_axis("units chosen"),
        [one for one in series if one.points],
    )


def _quality(rows: Sequence[Row]) -> list[Plot]:
    """Recall and precision, a chart for each kind of block that has them."""
    plots = []
    for kind in BlockKind:
        own = [row for row in rows if row.kind is kind]
        recall = [
            Point(row.layer, row.recall, f"{row.module}: recall {row.recall:.1%}")
            for row in own
            if row.recall is not None
        ]
        precision = [
            Point(row.layer, row.precision, f"{row.module}: precision {row.precision:.1%}")
            for row in own
            if row.precision is not None
        ]
        if recall or precision:
            plots.append(
                plot(
                    f"Recall and precision of what is chosen, {KINDS[kind]}, by layer",
                    _layer_axis(rows),
                    percent_axis("of the truth, of the choice"),
                    [
                        Series("recall", Marker.TRIANGLE, recall),
                        Series("precision", Marker.CROSS, precision, dashed=True),
                    ],
                )
            )
    return plots


def _parts(manifest: Manifest) -> Bars:
    expected, dense = manifest.bytes_per_token, manifest.dense_bytes_per_token
    return bars(
        "Bytes of weights read for a token, by part of the model",
        [
            (part, [("dense", dense.get(part, 0)), ("expected", size)])
            for part, size in expected.items()
            if size or dense.get(part, 0)
        ],
        megabytes,
    )


def _curve(manifest: Manifest, record: Record | None) -> Plot | None:
    if record is None or not record.curve:
        return None
    points = sorted(record.curve, key=lambda point: point.increase)
    dense = sum(manifest.dense_bytes_per_token.values())
    chosen = sum(manifest.bytes_per_token.values())
    note = "{:+.2%} perplexity: {}".format
    series = [
        Series(
            "possible",
            Marker.DISC,
            [
                Point(p.increase, p.bytes_per_token, note(p.increase, megabytes(p.bytes_per_token)))
                for p in points
            ],
        )
    ]
    widest = max(points[-1].increase, 0.0)
    if record.measured is not None:
        increase = max(record.measured.value - 1, 0.0)
        widest = max(widest, increase)
        series.append(
            Series(
                "this artifact, measured",
                Marker.TRIANGLE,
                [Point(increase, chosen, note(increase, megabytes(chosen)))],
                joined=False,
            )
        )
    highest = max(dense, chosen, *(point.bytes_per_token for point in points))
    return plot(
        "What a quality budget buys",
        axis_to("increase of perplexity", widest or 0.01, lambda value: f"{value:.2%}"),
        axis_to("read for a token", highest, megabytes),
        series,
    )


def megabytes(size: float) -> str:
    """10^6 bytes, with three figures where it is small."""
    return f"{size / 1e6:,.3g} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"
