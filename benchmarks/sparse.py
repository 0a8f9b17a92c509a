"""What sparsity buys at a real size: decode speed beside our own dense build.

Synthetic weights, speed only: a model of OPT-1.3B's shape with random weights, of which random
predictors choose an imposed share of neurons (see synthetic.py). The artifacts decode the same
random tokens in turns, in one process; the bytes and densities are those that the sessions counted,
the read bandwidth is measured before and after. Prints medians and the spread; asserts nothing.

    python benchmarks/sparse.py                        # a tenth of the neurons
    python benchmarks/sparse.py --head-density 0.5     # besides, with half of the heads
    python benchmarks/sparse.py --sweep                # where dense wins
    python benchmarks/sparse.py --dtype int8           # beside neurons chosen by HiRE-Q
    python benchmarks/sparse.py --layers 4 --rounds 3  # a quick look
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bandwidth import BandwidthProgram
from sparsecomp.cli.bench import sum_layers
from sparsecomp.evaluate.speed import Speed, race
from sparsecomp.options import Dtype
from sparsecomp.runtime import load
from sparsecomp.runtime.manifest import BlockKind
from synthetic import Imposed, Shape, compile_imposed, write_model

PROMPT = 8
SWEEP = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
DENSE = Imposed()


@dataclass(frozen=True)
class Figures:
    """One artifact's: `bandwidth` is the machine's, in bytes a second; `density` is counted, the
    mean over layers, by kind of block."""

    name: str
    speed: Speed
    density: dict[str, float]
    bandwidth: float

    @property
    def share_of_bound(self) -> float:
        """The time that reading its bytes takes at the read bandwidth, over the time it took."""
        return self.speed.bytes_per_second / self.bandwidth


def main() -> None:
    options = _arguments()
    options.build.mkdir(exist_ok=True)
    shape = Shape(*(getattr(options, name) for name in Shape.__match_args__))
    model_dir = options.build / shape.name
    alone(write_model, model_dir, shape)
    _compile(model_dir, shape, DENSE, options)
    found: list[list[Figures]] = []
    for imposed in _asked(options):
        figures = _measure(model_dir, shape, (DENSE, *imposed), options)
        found.append(figures[1:])
        if not options.json:
            print(*map(_lines, figures), sep="\n", flush=True)
    if options.json:
        records = [
            asdict(f) | {"share_of_bound": f.share_of_bound} for figures in found for f in figures
        ]
        print(json.dumps(records, indent=2))
    elif options.sweep:
        for kind in zip(*found, strict=True):
            print(_break_even(SWEEP, [figures.speed.ratio.median for figures in kind]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--density", type=float, default=0.1, help="share of neurons [%(default)s]")
    parser.add_argument("--head-density", type=float, help="share of heads, in one more artifact")
    parser.add_argument("--dtype", type=Dtype, choices=(Dtype.BF16, Dtype.INT8), default=Dtype.BF16)
    parser.add_argument("--sweep", action="store_true", help="densities from 5 to 100 %% instead")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=32, help="tokens that a turn decodes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--megabytes", type=int, default=1000, help="bandwidth buffer")
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder for what is made")
    parser.add_argument("--profile", action="store_true", help="time the kernels of a step too")
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    sizes = parser.add_argument_group("sizes of the model")
    for name, size in asdict(Shape()).items():
        sizes.add_argument(f"--{name}", type=int, default=size)
    return parser.parse_args()


def _asked(options: argparse.Namespace) -> Iterable[tuple[Imposed, ...]]:
    """What is measured beside the dense build, together."""
    for density in SWEEP if options.sweep else (options.density,):
        if options.dtype is Dtype.INT8:
            yield Imposed(density), Imposed(density, nested=True)
        else:
            yield (Imposed(density),)
    if options.head_density is not None:
        yield (Imposed(options.density, options.head_density),)


def alone(function: Callable[..., None], *arguments: object) -> None:
    """Call it in a process of its own, which takes its memory along."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        sys.exit(f"error: {function.__name__} failed")


def _artifact(shape: Shape, imposed: Imposed, options: argparse.Namespace) -> Path:
    """Where it lies: the dense one, and room for one of each kind after the other."""
    kind = "dense" if imposed == DENSE else "nested" if imposed.nested else "sparse"
    return options.build / f"{shape.name}-{options.dtype}-{kind}.spz"


def _compile(model_dir: Path, shape: Shape, imposed: Imposed, options: argparse.Namespace) -> None:
    output = _artifact(shape, imposed, options)
    alone(compile_imposed, model_dir, output, shape, imposed, options.dtype, options.threads)


def _measure(
    model_dir: Path, shape: Shape, builds: Sequence[Imposed], options: argparse.Namespace
) -> list[Figures]:
    """The figures of builds, in turns; the first is there already: the dense one."""
    for imposed in builds[1:]:
        _compile(model_dir, shape, imposed, options)
    numbers = random.Random(0)
    ids = [numbers.randrange(shape.vocabulary) for _ in range(PROMPT + options.tokens)]
    with BandwidthProgram() as program:
        before = program.measure(options.megabytes, options.threads).median
        models = [load(_artifact(shape, what, options)) for what in builds]
        speeds = race(models, ids, prompt=PROMPT, rounds=options.rounds, profile=options.profile)
        for model in models:
            model.close()
        after = program.measure(options.megabytes, options.threads).median
    # The machine's best: what else ran meanwhile only makes it slower.
    bandwidth = max(before, after) * 1e9
    return [
        Figures(what.name, speed, _density(speed), bandwidth)
        for what, speed in zip(builds, speeds, strict=True)
    ]


def _density(speed: Speed) -> dict[str, float]:
    found: dict[str, float] = {}
    for kind in BlockKind:
        # What was read to its end: a chosen neuron that is 0 is not.
        shares = [block.active for block in speed.stats.blocks if block.kind is kind]
        if shares:
            found[kind] = sum(shares) / len(shares)
    return found


def _lines(figures: Figures) -> str:
    speed = figures.speed
    counted = "".join(f", {kind} {share:.1%}" for kind, share in figures.density.items())
    decode, ratio = speed.decode, speed.ratio
    lines = [
        f"{figures.name + counted:42} "
        f"{decode.median:6.2f} tokens/s ({decode.low:.2f} to {decode.high:.2f})  "
        f"{ratio.median:5.3f}x dense ({ratio.low:.3f} to {ratio.high:.3f})  "
        f"{speed.stats.bytes_per_token / 1e6:6.0f} MB/token  "
        f"{figures.share_of_bound:4.0%} of the bound at {figures.bandwidth / 1e9:.1f} GB/s"
    ]
    steps = sorted(sum_layers(speed.steps).items(), key=lambda item: -item[1])
    lines += [f"  {seconds * 1e6:9.1f} us  {' '.join(step)}" for step, seconds in steps[:24]]
    return "\n".join(lines)


def _break_even(densities: Sequence[float], ratios: Sequence[float]) -> str:
    """The density at which a sparse build is as fast as the dense one, between two measured."""
    points = list(zip(densities, ratios, strict=True))
    for (d, r), (e, s) in itertools.pairwise(points):
        if r >= 1 > s:
            return f"break-even density: {d + (e - d) * (r - 1) / (r - s):.0%}"
    return "no break-even between the densities measured"


if __name__ == "__main__":
    main()
