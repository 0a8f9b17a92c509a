"""`sparsecomp opt`: IR in, passes, IR out."""

import sys
from itertools import zip_longest
from pathlib import Path

import click

from sparsecomp.errors import SparsecompError
from sparsecomp.options import Device, Dtype


@click.command("opt")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option(
    "-p",
    "--passes",
    metavar="PASS,...",
    multiple=True,
    help="Passes to run, in order (see `sparsecomp passes`).  [default: none]",
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="What becomes sparse, and what is not quantised: a YAML recipe.",
)
@click.option(
    "--dtype",
    type=click.Choice(list(map(str, Dtype))),
    default=str(Dtype.F32),
    show_default=True,
    help="Type in which weights are to be stored.",
)
@click.option(
    "--device",
    type=click.Choice(list(map(str, Device))),
    default=str(Device.CPU),
    show_default=True,
    help="What kernels are selected for.",
)
@click.option("--ranks", type=click.IntRange(1), default=1, help="Devices to split it over.")
@click.option("--rank", type=click.IntRange(0), default=0, help="Whose part of it to keep.")
@click.option(
    "--verify-roundtrip",
    is_flag=True,
    help="Also check that the result, parsed again, prints the same.",
)
def opt_verb(
    file: Path,
    passes: tuple[str, ...],
    recipe: Path | None,
    dtype: str,
    device: str,
    ranks: int,
    rank: int,
    verify_roundtrip: bool,
) -> None:
    """Run passes over the IR in FILE (default: stdin)."""
    if rank >= ranks:
        raise click.UsageError(f"--rank is {rank}; it must be below --ranks, which is {ranks}")
    text = _read(file)
    from sparsecomp.opt import optimise
    from sparsecomp.recipe import read_recipe

    names = [name.strip() for group in passes for name in group.split(",") if name.strip()]
    given = None if recipe is None else read_recipe(recipe)
    result = optimise(text, names, given, Dtype(dtype), rank, ranks, Device(device))
    if verify_roundtrip:
        _check_same(result, optimise(result, []))
    click.echo(result.rstrip("\n"))


def _read(file: Path) -> str:
    data = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SparsecompError(f"{file}: not text (byte {error.start} is not UTF-8)") from error


def _check_same(first: str, second: str) -> None:
    pairs = zip_longest(first.splitlines(), second.splitlines())
    for number, (line, again) in enumerate(pairs, start=1):
        if line != again:
            raise SparsecompError(
                f"the result does not survive a round trip: line {number} was printed as {line!r}, "
                f"then as {again!r}"
            )
