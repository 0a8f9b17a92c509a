"""`sparsecomp compile`: a model directory in, an artifact out."""

import sys
import time
from pathlib import Path

import click

from sparsecomp.cli.progress import display
from sparsecomp.options import (
    CompileOptions,
    CudaTarget,
    Dtype,
    Sparsity,
    SparsityOptions,
    Target,
    usable_cpus,
)


class Share(click.ParamType[float]):
    """A share of something: `1%` or `0.01`."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{text!r} is no share; write 1% or 0.01", param, ctx)


@click.command("compile")
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The artifact to write.  [default: the model directory's name with .spz]",
)
@click.option(
    "--dtype",
    type=click.Choice(list(map(str, Dtype))),
    default=str(Dtype.BF16),
    show_default=True,
    help="Type in which weights are stored; norms and sums are float32, the KV cache bf16 or f32.",
)
@click.option(
    "--sparsity",
    type=click.Choice(list(map(str, Sparsity))),
    help="Let a decode step leave unread what it can.  [default: auto with any option below, "
    "else off]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Text to calibrate on, UTF-8: a file, or a directory of .txt files; may be repeated.  "
    "[default: a text of the package's own]",
)
@click.option(
    "--max-ppl-increase",
    "budget",
    type=Share(),
    help="How much perplexity may rise on text that the compiler has not seen.  [default: 1%]",
)
@click.option("--density", type=Share(), help="Read this share of every MLP's neurons instead.")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="Decide as this YAML says instead (see `sparsecomp inspect --recipe`).",
)
@click.option(
    "--lookahead",
    type=click.IntRange(0, 2),
    help="Predict from the input of the block so many blocks earlier.  [default: 0]",
)
@click.option("--seed", type=int, help="Of the training of predictors.  [default: 0]")
@click.option(
    "--calibration-dir",
    type=click.Path(path_type=Path),
    help="Keep the calibration there, for a compile that is interrupted or repeated.",
)
@click.option(
    "--target",
    "targets",
    type=click.Choice([str(target) for target in (*Target, *CudaTarget)]),
    multiple=True,
    default=[str(Target.NATIVE)],
    show_default=True,
    help="Instruction set or GPU to compile for; repeat it for several in one artifact.",
)
@click.option(
    "--workers",
    type=int,
    help="Threads a program uses.  [default: the CPUs usable here, shared out to the shards]",
)
@click.option(
    "--shards",
    type=int,
    default=1,
    show_default=True,
    help="Split neurons, heads and vocabulary over so many processes, which torchrun starts.",
)
@click.option("--context", type=int, help="Most positions in a session.  [default: the model's]")
@click.option(
    "--print-ir-before", metavar="PASS", multiple=True, help="Print the IR before a pass."
)
@click.option("--print-ir-after", metavar="PASS", multiple=True, help="Print the IR after a pass.")
@click.option(
    "--stop-after", metavar="PASS", help="Print the IR after a pass and stop: no artifact."
)
@click.option(
    "--dump-dir",
    type=click.Path(path_type=Path),
    help="Write the IR after every pass there, as NN-pass-name.mlir.",
)
@click.option("--time-passes", is_flag=True, help="Print each pass's seconds to stderr.")
def compile_verb(
    model_dir: Path,
    output: Path | None,
    dtype: str,
    sparsity: str | None,
    calibration: tuple[Path, ...],
    budget: float | None,
    density: float | None,
    recipe: Path | None,
    lookahead: int | None,
    seed: int | None,
    calibration_dir: Path | None,
    targets: tuple[str, ...],
    workers: int | None,
    shards: int,
    context: int | None,
    print_ir_before: tuple[str, ...],
    print_ir_after: tuple[str, ...],
    stop_after: str | None,
    dump_dir: Path | None,
    time_passes: bool,
) -> None:
    """Compile the Hugging Face model in MODEL_DIR into one artifact."""
    options = CompileOptions(
        model_dir=model_dir,
        output=output or Path(f"{model_dir.resolve().name}.spz"),
        dtype=Dtype(dtype),
        sparsity=_sparsity(
            sparsity,
            calibration=calibration or None,
            max_ppl_increase=budget,
            density=density,
            recipe=recipe,
            lookahead=lookahead,
            seed=seed,
            calibration_dir=calibration_dir,
        ),
        targets=tuple(map(_target, targets)),
        workers=max(usable_cpus() // max(shards, 1), 1) if workers is None else workers,
        shards=shards,
        context=context,
        print_ir_before=print_ir_before,
        print_ir_after=print_ir_after,
        stop_after=stop_after,
        dump_dir=dump_dir,
        time_passes=time_passes,
    )
    from sparsecomp.compile import compile_model

    started = time.perf_counter()
    with display() as observer:
        report = compile_model(options, observer)
    seconds = time.perf_counter() - started
    if time_passes:
        _print_times(report.pass_times)
    if stop_after is not None:
        click.echo(report.ir)
    else:
        for note in report.notes:
            click.echo(note, err=True)
        size = options.output.stat().st_size / 1e6
        click.echo(f"{options.output}: {size:.1f} MB in {seconds:.1f} s", err=True)


def _target(name: str) -> Target | CudaTarget:
    return CudaTarget(name) if name.startswith("cuda:") else Target(name)


def _sparsity(mode: str | None, **options: object) -> SparsityOptions | None:
    """The options that were given; none at all, or off: a dense program."""
    given = {name: value for name, value in options.items() if value is not None}
    if mode == Sparsity.OFF and given:
        name = min(given).replace("_", "-")
        raise click.UsageError(f"--sparsity off leaves nothing for --{name} to decide")
    if mode == Sparsity.OFF or (mode is None and not given):
        return None
    return SparsityOptions(**given)  # type: ignore[arg-type]


def _print_times(pass_times: list[tuple[str, float]]) -> None:
    for name, seconds in [*pass_times, ("all passes", sum(s for _, s in pass_times))]:
        print(f"{seconds:9.3f} s  {name}", file=sys.stderr)
