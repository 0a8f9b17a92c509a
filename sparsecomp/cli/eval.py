"""`sparsecomp eval`: an artifact's quality against its dense original."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsecomp.cli.device import device_option
from sparsecomp.cli.progress import display

if TYPE_CHECKING:
    from sparsecomp import evaluate
    from sparsecomp.evaluate import Estimate
    from sparsecomp.evaluate.truth import Agreement

Row = tuple[str, "Estimate", str]
"""What a figure is called, the figure, and the format of its numbers."""


@click.command("eval")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    "model_dir",
    type=click.Path(path_type=Path),
    help="The Hugging Face model it was compiled from, to run in float32.",
)
@click.option(
    "--dense", type=click.Path(path_type=Path), help="Another artifact as the reference instead."
)
@click.option(
    "--text",
    "texts",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Held-out text, UTF-8: a file, or a directory of .txt files; may be repeated.",
)
@click.option(
    "--tokens",
    type=int,
    default=16384,
    show_default=True,
    help="How much of the text to use, from its beginning.",
)
@click.option(
    "--window",
    type=int,
    default=256,
    show_default=True,
    help="Tokens in a sequence; the model knows nothing before it.",
)
@click.option(
    "--tasks",
    "task_file",
    type=click.Path(path_type=Path),
    help='Items to continue: JSONL of {"context": ..., "continuation": ...}, plain or .gz.',
)
@click.option("--limit", type=int, help="Use the first items only.  [default: all]")
@click.option(
    "--full-logits", is_flag=True, help="Read all of the artifact's head, where it is sketched."
)
@device_option
@click.option(
    "--allow-native", is_flag=True, help="Run native code that was not compiled on this machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def eval_verb(
    artifact: Path,
    model_dir: Path | None,
    dense: Path | None,
    texts: tuple[Path, ...],
    tokens: int,
    window: int,
    task_file: Path | None,
    limit: int | None,
    full_logits: bool,
    device: str,
    allow_native: bool,
    as_json: bool,
) -> None:
    """Compare what ARTIFACT predicts with what its dense original does.

    Each token goes through the artifact's decode by itself, after the true ones before it.
    """
    if (model_dir is None) == (dense is None):
        raise click.UsageError("give one of --reference and --dense")
    if not texts and task_file is None:
        raise click.UsageError("give --text, --tasks or both")
    import sparsecomp.runtime as rt
    from sparsecomp import evaluate

    with contextlib.ExitStack() as stack:
        # All that may be wrong with the input comes before what takes long.
        text = evaluate.read_texts(texts)
        file = None if task_file is None else evaluate.read_tasks(task_file, limit)
        model = stack.enter_context(rt.load(artifact, allow_native=allow_native, device=device))
        windows = evaluate.cut_windows(text, model, length=window, tokens=tokens) if text else []
        items = None if file is None else evaluate.item_windows(file.items, model)

        observer = stack.enter_context(display())
        observer.stage("reference", str(dense or model_dir))
        reference: evaluate.LogitSource
        if dense is not None:
            reference_model = stack.enter_context(
                rt.load(dense, allow_native=allow_native, device=device)
            )
            reference = evaluate.ArtifactLogits(reference_model)
        else:
            assert model_dir is not None
            from sparsecomp.evaluate.hugging_face import HuggingFaceLogits

            reference = HuggingFaceLogits(model_dir)

        source = evaluate.ArtifactLogits(model, full_logits=full_logits)
        quality = task_report = None
        blocks: list[Agreement] = []
        if windows:
            observer.stage("text", f"{len(windows)} windows of {window} tokens")
            quality = evaluate.quality(source, reference, windows, observer)
            if model_dir is not None and model.manifest.blocks:
                from sparsecomp.evaluate.truth import agreement

                observer.stage("selections", f"{len(model.manifest.blocks)} blocks")
                blocks = agreement(model, model_dir, windows, observer)
        if items is not None:
            observer.stage("tasks", f"{len(items.windows)} items")
            task_report = evaluate.tasks(source, reference, items, observer)

        record: dict[str, object] = {
            "artifact": str(artifact),
            "artifact_sha256": model.artifact.seal,
            "full_logits": full_logits,
            "reference": reference.name,
            "confidence": evaluate.CONFIDENCE,
            "resamples": evaluate.RESAMPLES,
            "seed": evaluate.SEED,
        }
    if as_json:
        click.echo(
            json.dumps(
                record | _details(window, text, quality, blocks, file, task_report), indent=2
            )
        )
        return
    if quality is not None:
        _print_quality(quality)
    if blocks:
        _print_blocks(blocks)
    if task_report is not None:
        _print_tasks(task_report)


def _details(
    window: int,
    texts: list[evaluate.Text],
    quality: evaluate.QualityReport | None,
    blocks: list[Agreement],
    file: evaluate.TaskFile | None,
    tasks: evaluate.TaskReport | None,
) -> dict[str, object]:
    details: dict[str, object] = {}
    if quality is not None:
        files = [{"path": str(text.path), "sha256": text.sha256} for text in texts]
        details["text"] = {"files": files, "window": window} | dataclasses.asdict(quality)
    if blocks:
        details["blocks"] = [dataclasses.asdict(block) for block in blocks]
    if file is not None and tasks is not None:
        source = {"path": str(file.path), "sha256": file.sha256}
        details["tasks"] = {"file": source} | dataclasses.asdict(tasks)
    return details


def _print_quality(report: evaluate.QualityReport) -> None:
    _print_table(
        f"text: {report.tokens:,} tokens in {report.windows:,} windows, {report.seconds:.1f} s",
        [
            ("perplexity", report.perplexity, ".3f"),
            ("perplexity of the reference", report.reference_perplexity, ".3f"),
            ("ratio of the two", report.ratio, ".5f"),
            ("KL divergence, mean (nats)", report.kl_mean, ".3g"),
            ("KL divergence, 99th percentile", report.kl_p99, ".3g"),
            ("same top token", report.same_top, ".2%"),
        ],
    )


def _print_blocks(blocks: list[Agreement]) -> None:
    from sparsecomp.cli.tables import console, table

    made = table("sparse blocks", "module", "kind", "chosen", "recall", "precision")
    for block in blocks:
        shares = (block.density, block.recall, block.precision)
        made.add_row(block.module, block.kind, *(f"{share:.1%}" for share in shares))
    console().print(made)


def _print_tasks(report: evaluate.TaskReport) -> None:
    shortened = f", {report.shortened:,} shortened" if report.shortened else ""
    _print_table(
        f"tasks: {report.items:,} items{shortened}, {report.tokens:,} tokens, "
        f"{report.seconds:.1f} s",
        [
            ("accuracy", report.accuracy, ".2%"),
            ("accuracy of the reference", report.reference_accuracy, ".2%"),
            ("difference of the two", report.accuracy_change, "+.2%"),
            ("perplexity", report.perplexity, ".3f"),
            ("perplexity of the reference", report.reference_perplexity, ".3f"),
            ("ratio of the two", report.ratio, ".5f"),
        ],
    )


def _print_table(title: str, rows: list[Row]) -> None:
    from rich import box
    from rich.table import Table

    from sparsecomp.cli.tables import console

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "value", "95 % low", "high"):
        table.add_column(column, justify="right" if column else "left")
    for name, estimate, style in rows:
        numbers = (estimate.value, estimate.low, estimate.high)
        table.add_row(name, *(format(number, style) for number in numbers))
    console().print(table)
