"""`sparsecomp bench`: an artifact's speed on real text, beside its dense build and the machine."""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsecomp.cli.device import device_option
from sparsecomp.cli.progress import display
from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from sparsecomp.evaluate.speed import Speed
    from sparsecomp.evaluate.spread import Spread
    from sparsecomp.runtime import Model, StepTime
    from sparsecomp.texts import Text


@dataclass(frozen=True)
class Contender:
    """An artifact, and how fast it was."""

    name: str
    path: Path
    model: Model
    speed: Speed


@click.command("bench")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--dense", type=click.Path(path_type=Path), help="Its dense build, to alternate with."
)
@click.option(
    "--text",
    "texts",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Text to read, UTF-8: a file, or a directory of .txt files.  [default: the package's]",
)
@click.option("--prompt", type=int, default=128, show_default=True, help="Tokens to prefill.")
@click.option("--tokens", type=int, default=128, show_default=True, help="Tokens to decode.")
@click.option("--rounds", type=int, default=7, show_default=True, help="Turns that each has.")
@click.option("--profile", is_flag=True, help="Time the kernels of a decode step too.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Write the predicted and measured timelines of a decode step there, for Perfetto.",
)
@device_option
@click.option(
    "--allow-native", is_flag=True, help="Run native code that was not compiled on this machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def bench_verb(
    artifact: Path,
    dense: Path | None,
    texts: tuple[Path, ...],
    prompt: int,
    tokens: int,
    rounds: int,
    profile: bool,
    trace: Path | None,
    device: str,
    allow_native: bool,
    as_json: bool,
) -> None:
    """Measure how fast ARTIFACT reads a prompt and decodes the text that follows it.

    Sparsity depends on the text, so it is a real one; each decoded token is the text's own.
    """
    import sparsecomp.runtime as rt
    from sparsecomp.calibrate.text import read_texts
    from sparsecomp.evaluate.bandwidth import METHOD
    from sparsecomp.evaluate.speed import race

    named = [("artifact", artifact), *([("dense", dense)] if dense else [])]
    with contextlib.ExitStack() as stack:
        text = read_texts(texts)
        models = [
            stack.enter_context(rt.load(path, allow_native=allow_native, device=device))
            for _, path in named
        ]
        require_one_device(models, profile or trace is not None)
        ids = _ids(text, models[0], prompt, tokens)
        observer = stack.enter_context(display())
        threads = models[0].workers
        if threads:
            observer.stage("bandwidth", f"{threads} threads")
        bandwidths = _bandwidth(threads)
        observer.stage("speed", f"{rounds} rounds of {prompt} and {tokens} tokens")
        # The dense build first: ratios are over it.
        order = list(reversed(models))
        speeds = race(order, ids, prompt=prompt, rounds=rounds, profile=profile, observer=observer)
        bandwidths += _bandwidth(threads)
        if trace is not None:
            observer.stage("timeline", "predicted and measured")
            traced = _trace(trace, models[0], ids, prompt)
    # The machine's best: what else ran meanwhile only makes it slower.
    bandwidth = max(bandwidths, key=lambda spread: spread.median, default=None)
    contenders = [
        Contender(name, path, model, speed)
        for (name, path), model, speed in zip(named, models, reversed(speeds), strict=True)
    ]
    if trace is not None:
        click.echo(traced, err=True)
    if as_json:
        record = {
            "text": [{"path": str(t.path), "sha256": t.sha256} for t in text],
            "prompt_tokens": prompt,
            "decoded_tokens": tokens,
            "rounds": rounds,
            "device": models[0].device,
            "bandwidth": None
            if bandwidth is None
            else asdict(bandwidth) | {"threads": threads, "method": METHOD},
            **{c.name: _record(c, bandwidth) for c in contenders},
        }
        click.echo(json.dumps(record, indent=2))
        return
    _print(contenders, bandwidth, METHOD, threads, profile)


def require_one_device(models: Sequence[Model], timed: bool) -> None:
    """Raises SparsecompError where speeds cannot be compared, or kernels not timed."""
    paths, devices = [model.artifact.path for model in models], [model.device for model in models]
    if len(set(devices)) > 1:
        raise SparsecompError(
            f"{paths[0]} runs on {devices[0]}, {paths[1]} on {devices[1]}; give --device cpu"
        )
    if timed and devices[0] != "cpu":
        raise SparsecompError("--profile and --trace time programs for a CPU; give --device cpu")


def _bandwidth(threads: int) -> list[Spread]:
    """The machine's, as so many threads read; none where it is a GPU that does."""
    from sparsecomp.evaluate.bandwidth import read_bandwidth

    return [read_bandwidth(threads)] if threads else []


def _trace(path: Path, model: Model, ids: Sequence[int], prompt: int) -> str:
    """Write the timelines of a decode step; a line about them."""
    from sparsecomp.cli.schedule import compare_timelines, write_trace

    timelines = compare_timelines(model, ids, prompt)
    write_trace(path, timelines)
    return f"{path}: written; {timelines.summary()}"


def _ids(texts: Sequence[Text], model: Model, prompt: int, tokens: int) -> list[int]:
    """The first tokens of the texts, as many as prompt and decoding take."""
    wanted = prompt + tokens
    if prompt < 1 or tokens < 1:
        raise SparsecompError("--prompt and --tokens must be at least 1")
    if wanted > model.manifest.model.context:
        raise SparsecompError(
            f"{prompt} and {tokens} tokens do not fit the context of {model.artifact.path}, "
            f"{model.manifest.model.context}; give smaller --prompt and --tokens"
        )
    ids: list[int] = []
    for text in texts:
        # A token is seldom more than eight bytes: take no more of a long text than is needed.
        ids += model.encode(text.content[: 32 * wanted], add_special_tokens=not ids)
        if len(ids) >= wanted:
            return ids[:wanted]
    raise SparsecompError(f"the text has {len(ids)} tokens, {wanted} are needed; give more --text")


def _record(contender: Contender, bandwidth: Spread | None) -> dict[str, object]:
    speed, stats = contender.speed, contender.speed.stats
    per_token: dict[str, float] = {
        part: size / stats.decoded for part, size in stats.weight_bytes.items()
    }
    return {
        "path": str(contender.path),
        "sha256": contender.model.artifact.seal,
        "prefill_tokens_per_second": asdict(speed.prefill),
        "decode_tokens_per_second": asdict(speed.decode),
        "decode_speed_ratio": asdict(speed.ratio),
        "bytes_per_token": per_token | {"kv": stats.kv_bytes / stats.decoded},
        "bytes_per_second": speed.bytes_per_second,
        "share_of_bandwidth": bandwidth and speed.bytes_per_second / bandwidth.median,
        "blocks": [asdict(block) for block in stats.blocks],
        "steps": [asdict(step) for step in speed.steps],
    }


def _print(
    contenders: Sequence[Contender],
    bandwidth: Spread | None,
    method: str,
    threads: int,
    profile: bool,
) -> None:
    from sparsecomp.cli.tables import console, table

    out = console()
    speeds = table("speed", "tokens/s", *(c.name for c in contenders))
    speeds.add_row("prefill", *(_spread(c.speed.prefill, ".0f") for c in contenders))
    speeds.add_row("decode", *(_spread(c.speed.decode, ".1f") for c in contenders))
    if len(contenders) > 1:
        speeds.add_row("decode over dense", *(_spread(c.speed.ratio, ".3f") for c in contenders))
    out.print(speeds)

    reads = table("read per decoded token", "bytes", *(c.name for c in contenders))
    parts = contenders[0].speed.stats.weight_bytes
    for part in parts:
        reads.add_row(part, *(_per_token(c, c.speed.stats.weight_bytes[part]) for c in contenders))
    reads.add_row("KV cache", *(_per_token(c, c.speed.stats.kv_bytes) for c in contenders))
    reads.add_row("all", *(f"{c.speed.stats.bytes_per_token:,.0f}" for c in contenders))
    reads.add_row("GB/s", *(f"{c.speed.bytes_per_second / 1e9:.1f}" for c in contenders))
    if bandwidth is not None:
        shares = (c.speed.bytes_per_second / bandwidth.median for c in contenders)
        reads.add_row("of the read bandwidth", *(f"{share:.0%}" for share in shares))
    out.print(reads)
    if bandwidth is not None:
        out.print(
            f"read bandwidth: {bandwidth.median / 1e9:.1f} GB/s "
            f"({bandwidth.low / 1e9:.1f}-{bandwidth.high / 1e9:.1f}), {threads} threads, "
            f"measured in this run by {method}; weights that stay in a cache are read faster",
            soft_wrap=True,
        )
    for contender in contenders:
        if profile:
            _print_profile(contender)


def _print_profile(contender: Contender) -> None:
    """The steps of a decode, summed over layers, the longest first."""
    from sparsecomp.cli.tables import console, table

    totals = sum_layers(contender.speed.steps)
    whole = sum(totals.values())
    made = table(f"a decode step of the {contender.name}", "kernel, module", "us", "share")
    for (kernel, module), seconds in sorted(totals.items(), key=lambda item: -item[1]):
        made.add_row(f"{kernel} {module}", f"{seconds * 1e6:,.1f}", f"{seconds / whole:.1%}")
    made.add_row("all", f"{whole * 1e6:,.1f}", "100.0%")
    console().print(made)


def sum_layers(steps: Iterable[StepTime]) -> dict[tuple[str, str], float]:
    """Seconds by kernel and module, modules that differ in numbers alone (layers) taken as one."""
    totals: dict[tuple[str, str], float] = defaultdict(float)
    for step in steps:
        totals[step.kernel, re.sub(r"\b\d+\b", "*", step.module)] += step.seconds
    return dict(totals)


def _per_token(contender: Contender, size: int) -> str:
    return f"{size / contender.speed.stats.decoded:,.0f}"


def _spread(spread: Spread, form: str) -> str:
    return f"{spread.median:{form}} ({spread.low:{form}}-{spread.high:{form}})"
