"""`torchrun -m sparsecomp.distributed`: continues a prompt on several ranks.

A mistake or a lost rank is one line on stderr, from one of the ranks. Exit status: 0 done,
1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import sparsecomp.runtime as rt
from sparsecomp.cli import FAILED, INTERRUPTED, USAGE
from sparsecomp.cli.continuing import echo_text, record, sampling_options, speed
from sparsecomp.cli.device import device_option
from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from sparsecomp.distributed.group import Group


def main() -> int:
    """The exit status of one rank."""
    try:
        status: int = _run_verb.main(prog_name="sparsecomp.distributed", standalone_mode=False)
        return status or 0
    except click.UsageError as error:
        return _fail(f"{error.format_message()} (see --help)", USAGE)
    except SparsecompError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        return _fail("this needs torch: pip install 'sparsecomp[distributed]'")


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-p", "--prompt", required=True, help="The text to continue.")
@sampling_options
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the other ranks.",
)
@device_option
@click.option(
    "--allow-native", is_flag=True, help="Run code that was not compiled on this machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end instead.")
def _run_verb(
    artifact: Path,
    prompt: str,
    timeout: float,
    device: str,
    allow_native: bool,
    as_json: bool,
    **sampling: Any,
) -> int:
    """Continue a prompt with ARTIFACT, compiled with --shards, on all ranks that torchrun starts.
    Rank 0 streams the text to stdout."""
    params = rt.SamplingParams(**sampling)
    from sparsecomp.distributed.group import Group, Stopped

    group = Group(timeout)
    try:
        with _load(artifact, allow_native, device, group) as model:
            group.meet_on(model.device)
            _generate(model, group, prompt, params, as_json)
    except BrokenPipeError:
        # The reader left. Point stdout elsewhere, or the interpreter complains when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        group.leave(SparsecompError("nobody reads the text any more"))
        return FAILED
    except SparsecompError as error:
        line = group.leave(error)
        if line is not None:
            _print_error(line)
        interrupted = isinstance(error, Stopped) and error.number == signal.SIGINT
        return INTERRUPTED if interrupted else FAILED
    group.close()
    return 0


def _load(artifact: Path, allow_native: bool, device: str, group: Group) -> rt.Model:
    """Each rank's part; a rank that cannot load its own stops all. Raises SparsecompError."""
    model, problem = None, ""
    try:
        model = rt.load(artifact, allow_native=allow_native, ranks=group, device=device)
    except SparsecompError as error:
        problem = str(error)
    if (first := group.agree(problem)) or model is None:
        raise SparsecompError(first)
    return model


def _generate(
    model: rt.Model, group: Group, prompt: str, params: rt.SamplingParams, as_json: bool
) -> None:
    stream = model.stream(prompt, params)
    text = echo_text(stream, shown=group.rank == 0 and not as_json)
    if group.rank:
        return
    exchanged = _exchanged(model, group)
    if as_json:
        found = record(text, stream) | {"ranks": group.size, "exchanged": exchanged}
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    click.echo(f"{speed(stream.tokens)} on {group.size} ranks", err=True)
    _print_exchanged(exchanged)


def _exchanged(model: rt.Model, group: Group) -> dict[str, float]:
    """Bytes that rank 0 gave to the others: for the prompt, and on average for a token. Beside
    them what it would give if all scores were gathered: of its part of the vocabulary, and of the
    units of its sparse blocks."""
    counted = group.counted
    first, last = counted.sums_before[0], counted.sums_before[-1]
    steps = max(len(counted.sums_before) - 1, 1)
    scores = model.logits_size + sum(block.units for block in model.manifest.blocks)
    return {
        "prompt_sums_bytes": first.bytes,
        "sums_bytes_per_token": (last.bytes - first.bytes) / steps,
        "sums_per_token": (last.exchanges - first.exchanges) / steps,
        "candidates_bytes_per_token": counted.candidates.bytes / len(counted.sums_before),
        "all_scores_bytes_per_token": 4 * scores,
    }


def _print_exchanged(exchanged: dict[str, float]) -> None:
    """A line on stderr: what a token takes from each rank."""
    click.echo(
        f"a token takes {exchanged['sums_bytes_per_token']:,.0f} bytes of sums in "
        f"{exchanged['sums_per_token']:.0f} exchanges and "
        f"{exchanged['candidates_bytes_per_token']:,.0f} bytes of candidates from each rank; "
        f"gathering all scores would take {exchanged['all_scores_bytes_per_token']:,} for these",
        err=True,
    )


def _fail(message: str, status: int = FAILED) -> int:
    """What is the same on every rank is said by the first."""
    if os.environ.get("RANK", "0") == "0":
        _print_error(message)
    return status


def _print_error(message: str) -> None:
    print("error:", " ".join(message.split()), file=sys.stderr, flush=True)


if __name__ == "__main__":
    if status := main():
        sys.stdout.flush()
        os._exit(status)  # threads of gloo may still wait for ranks that are gone
