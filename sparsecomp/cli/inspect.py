"""`sparsecomp inspect`: what an artifact holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecomp.runtime.artifact import Artifact, Manifest, Part
    from sparsecomp.runtime.record import Record

STAGES = ("aten", "spz", "exec", "exec.cuda")


@click.command("inspect")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--ir",
    "stage",
    type=click.Choice(STAGES),
    is_flag=False,
    flag_value="spz",
    help="Print the IR of a stage instead (no stage: spz).",
)
@click.option("--source", is_flag=True, help="Print the generated C++ instead.")
@click.option("--recipe", is_flag=True, help="Print the recipe of its sparsity (YAML) instead.")
@click.option("--schedule", is_flag=True, help="Print the schedule of a decode step instead.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    help="Write a page about its sparsity there instead.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the manifest and record as JSON instead."
)
def inspect_verb(
    artifact: Path,
    stage: str | None,
    source: bool,
    recipe: bool,
    schedule: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show the facts, sizes, programs and sparsity of ARTIFACT. Runs nothing in it."""
    if (stage is not None) + source + recipe + schedule + (html is not None) + as_json > 1:
        raise click.UsageError(
            "choose one of --ir, --source, --recipe, --schedule, --html and --json"
        )
    from sparsecomp.runtime.artifact import SOURCE, Artifact, Stage, ir_member

    with Artifact.open(artifact) as opened:
        if stage is not None:
            click.echo(opened.read_text(ir_member(Stage(stage))).rstrip("\n"))
        elif source:
            click.echo(opened.read_text(SOURCE).rstrip("\n"))
        elif recipe:
            click.echo(_recipe(opened).rstrip("\n"))
        elif schedule:
            from sparsecomp.cli.schedule import decode_program, print_schedule
            from sparsecomp.passes.machine import Machine

            print_schedule(decode_program(opened), Machine())
        elif html is not None:
            from sparsecomp.report.page import render

            html.write_text(render(opened), encoding="utf-8")
            click.echo(f"{html}: written", err=True)
        elif as_json:
            click.echo(json.dumps(_document(opened), indent=1, ensure_ascii=False))
        else:
            _print_summary(opened)


def _recipe(artifact: Artifact) -> str:
    from sparsecomp.runtime.artifact import RECIPE

    if RECIPE not in artifact.member_names:
        raise SparsecompError(f"{artifact.path}: has no recipe; it was compiled without sparsity")
    return artifact.read_text(RECIPE)


def _document(artifact: Artifact) -> dict[str, object]:
    """The manifest, and the record under `sparsity` (null where there is none)."""
    from sparsecomp.runtime.artifact import MANIFEST, SPARSITY

    record = None
    if artifact.read_record() is not None:  # which checks it
        record = json.loads(artifact.read_text(SPARSITY))
    return json.loads(artifact.read_text(MANIFEST)) | {"sparsity": record}


def _print_summary(artifact: Artifact) -> None:
    from sparsecomp.cli.tables import console, table

    manifest, record = artifact.manifest, artifact.read_record()
    facts = table("model", "fact", "value")
    for name, value in _facts(manifest):
        facts.add_row(name, value)
    programs = table("programs", "target", "machine", "workers", "needs")
    for program in manifest.programs:
        needs = " ".join(program.cpu_flags)
        programs.add_row(program.target, program.machine, str(program.workers), needs)
    for code in () if manifest.cuda is None else manifest.cuda.codes:
        programs.add_row(f"cuda:{code}", "NVIDIA GPU", "", "")
    members = table("members", "member", "bytes")
    for name, size in _sizes(manifest).items():
        members.add_row(name, f"{size:,}")
    tables = [facts, programs, members, _reads(manifest)]
    if record is not None:
        budget = table("budget", "fact", "value")
        for name, value in _spending(record):
            budget.add_row(name, value)
        tables.append(budget)
    if manifest.blocks:
        tables.append(_blocks(manifest, record))
    if narrow := _narrow(record):
        tables.append(narrow)
    out = console()
    for made in tables:
        out.print(made)


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Bytes of each member; of a GPU's kernels those of each kind together."""
    sizes: dict[str, int] = {}
    for name, member in manifest.members.items():
        folder, _, _ = name.rpartition("/")
        shown = name if folder.count("/") == 0 else f"{folder}/"
        sizes[shown] = sizes.get(shown, 0) + member.size
    return sizes


def _reads(manifest: Manifest) -> Table:
    """Bytes of weights by part: as expected, and of the dense program where that differs."""
    from sparsecomp.cli.tables import table

    expected, dense = manifest.bytes_per_token, manifest.dense_bytes_per_token

    def total(sizes: Mapping[Part, int]) -> dict[str, int]:
        return {str(part): size for part, size in sizes.items()} | {"all": sum(sizes.values())}

    whole = max(sum(expected.values()), 1)
    if not manifest.blocks:
        made = table("weights read per token", "part", "bytes", "share")
        for part, size in total(expected).items():
            made.add_row(part, f"{size:,}", f"{size / whole:.1%}")
        return made
    made = table("weights read per token", "part", "expected", "share", "dense", "of dense")
    for part, size in total(expected).items():
        of = total(dense).get(part, 0)
        less = f"{size / of:.1%}" if of else ""
        made.add_row(part, f"{size:,}", f"{size / whole:.1%}", f"{of:,}", less)
    return made


def _blocks(manifest: Manifest, record: Record | None) -> Table:
    from sparsecomp.cli.tables import table

    known = {} if record is None else {block.module: block for block in record.blocks}
    made = table(
        "sparse blocks",
        "module",
        "kind",
        "units",
        "chosen",
        "read on",
        "coarse",
        "recall",
        "precision",
    )
    for block in manifest.blocks:
        found = known.get(block.module)
        made.add_row(
            block.module,
            block.kind,
            f"{block.units:,}",
            f"{block.density:.1%}",
            f"{block.active:.1%}",
            _percent(None if block.coarse is None else block.coarse.density),
            _percent(None if found is None else found.recall),
            _percent(None if found is None else found.precision),
        )
    return made


def _narrow(record: Record | None) -> Table | None:
    """The blocks whose weights are in fewer bits than the others'; None where there are none."""
    from sparsecomp.cli.tables import table
    from sparsecomp.sparsity import Narrow

    made = table("narrow blocks", "module", "kind", "bits", "of keys", "output bits", "nats")
    for block in () if record is None else record.blocks:
        if isinstance(choice := block.choice, Narrow):
            keys = str(choice.key_value_bits or "")
            bits = str(choice.bits), keys, str(choice.output_bits)
            made.add_row(block.module, block.kind, *bits, f"{block.cost:.2g}")
    return made if made.row_count else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _spending(record: Record) -> list[tuple[str, str]]:
    lines = [("allowed", "none" if record.budget is None else f"{record.budget:+.2%} perplexity")]
    if record.measured is not None:
        low, high = record.measured.low - 1, record.measured.high - 1
        lines.append(("measured", f"{record.measured.value - 1:+.2%} ({low:+.2%} to {high:+.2%})"))
    if record.dense_because is not None:
        lines.append(("dense because", record.dense_because))
    return lines


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    model = manifest.model
    split = [("split over", f"{manifest.ranks} ranks; bytes are rank 0's")]
    return [
        ("name", model.name),
        *(split if manifest.shards else []),
        ("parameters", f"{model.parameters:,}"),
        ("layers", str(model.layers)),
        ("hidden", str(model.hidden)),
        ("vocabulary", f"{model.vocab_size:,}"),
        ("exact logits", f"the {manifest.exact_logits:,} largest of a decode step at least"),
        ("context", f"{model.context:,} positions"),
        ("stored as", str(model.dtype)),
        ("KV cache", f"{manifest.kv_bytes_per_position:,} bytes a position"),
        ("compiler", manifest.compiler_version),
    ]
