"""`sparsecomp inspect`: what an artifact holds."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sparsecomp.runtime.artifact import Artifact, Manifest

STAGES = ("aten", "spz", "exec")


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
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON instead.")
def inspect_verb(artifact: Path, stage: str | None, source: bool, as_json: bool) -> None:
    """Show the facts, sizes and programs of ARTIFACT. Runs nothing in it."""
    if (stage is not None) + source + as_json > 1:
        raise click.UsageError("choose one of --ir, --source and --json")
    from sparsecomp.runtime.artifact import MANIFEST, SOURCE, Artifact, Stage, ir_member

    with Artifact.open(artifact) as opened:
        if stage is not None:
            click.echo(opened.read_text(ir_member(Stage(stage))).rstrip("\n"))
        elif source:
            click.echo(opened.read_text(SOURCE).rstrip("\n"))
        elif as_json:
            click.echo(opened.read_text(MANIFEST).rstrip("\n"))
        else:
            _print_summary(opened)


def _print_summary(artifact: "Artifact") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    manifest = artifact.manifest
    console = Console(highlight=False)

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            made.add_column(column, justify="left" if number == 0 else "right")
        return made

    facts = table("model", "fact", "value")
    for name, value in _facts(manifest):
        facts.add_row(name, value)
    programs = table("programs", "target", "machine", "workers", "needs")
    for program in manifest.programs:
        needs = " ".join(program.cpu_flags)
        programs.add_row(program.target, program.machine, str(program.workers), needs)
    members = table("members", "member", "bytes")
    for name, member in manifest.members.items():
        members.add_row(name, f"{member.size:,}")
    reads = table("weights read per token", "part", "bytes", "share")
    total = sum(manifest.bytes_per_token.values())
    for part, size in [*manifest.bytes_per_token.items(), ("all", total)]:
        reads.add_row(part, f"{size:,}", f"{size / max(total, 1):.1%}")
    for made in (facts, programs, members, reads):
        console.print(made)


def _facts(manifest: "Manifest") -> list[tuple[str, str]]:
    model = manifest.model
    return [
        ("name", model.name),
        ("parameters", f"{model.parameters:,}"),
        ("layers", str(model.layers)),
        ("hidden", str(model.hidden)),
        ("vocabulary", f"{model.vocab_size:,}"),
        ("context", f"{model.context:,} positions"),
        ("stored as", str(model.dtype)),
        ("KV cache", f"{manifest.kv_bytes_per_position:,} bytes a position"),
        ("compiler", manifest.compiler_version),
    ]
