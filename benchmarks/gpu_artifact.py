"""What does it take to compile a whole artifact of a large model for GPUs, on any machine?

From a published config to the file on disk, with an imposed sparsity and random weights, made by
name (see gpu_models.py): no checkpoint is written, nor a second copy of the weights. Prints
seconds and peak memory of each stage, and of all. Needs as much free disk as the weights are large.

    python benchmarks/gpu_artifact.py -o opt.spz             # OPT-6.7B, for all three architectures
    python benchmarks/gpu_artifact.py -o opt.spz --layers 2  # a quick look
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from triton import knobs

from gpu_models import Build, Family, RandomWeights, config_of, impose, write_hollow
from sparsecomp.compile import compile_model
from sparsecomp.observer import SilentObserver
from sparsecomp.options import CompileOptions, CudaTarget

GIB = 1 << 30


@dataclass(frozen=True)
class Mark:
    """When a stage began: seconds on the clock, and of this process on all processors."""

    stage: str
    clock: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)


@dataclass
class Stopwatch(SilentObserver):
    """Prints each stage when it is over."""

    latest: Mark = field(default_factory=lambda: Mark("begin"))

    def stage(self, name: str, detail: str = "") -> None:
        tell(self.latest)
        self.latest = Mark(name)


def tell(since: Mark) -> None:
    """Seconds since then, and the most memory that the process had so far."""
    clock, cpu = time.monotonic() - since.clock, time.process_time() - since.cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    print(
        f"{since.stage:12} {clock:6.1f} s ({cpu:.1f} s of processors), {peak:.1f} GiB", flush=True
    )


def main() -> None:
    options = _arguments()
    begun = Mark("all")
    build = Build(options.family, options.layers, options.neurons, options.heads, options.lookahead)
    config = config_of(build.family, build.layers)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        write_hollow(path, config)
        knobs.cache.dir = str(Path(folder, "kernels"))  # none that an earlier run has compiled
        compile_model(
            CompileOptions(
                model_dir=path,
                output=options.output,
                targets=tuple(options.target or CudaTarget),
            ),
            watch,
            impose(build),
            RandomWeights(config),
        )
    tell(watch.latest)
    tell(begun)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--family", type=Family, choices=tuple(Family), default=Family.OPT)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--neurons", type=float, default=0.1, help="share that a step reads")
    parser.add_argument("--heads", type=float, default=0.5, help="share that a step reads")
    parser.add_argument("--lookahead", type=int, default=1)
    parser.add_argument("--target", type=CudaTarget, action="append", choices=tuple(CudaTarget))
    return parser.parse_args()


if __name__ == "__main__":
    main()
