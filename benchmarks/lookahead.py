"""What lookahead buys at a real size: decode speed with early predictions, use by use.

Synthetic weights, speed only (see synthetic.py): a model of OPT-1.3B's shape whose predictors read
their own block's input, and the same with that of the block before: scheduled as its kernels stand,
with predictions beside other work, and with these done in idle time too. The artifacts decode the
same random tokens in short turns, in one process (see turns.py). Then steps of each are timed and
compared with what its schedule predicts. Prints figures; asserts nothing.

    python benchmarks/lookahead.py                         # ten minutes, and making the artifacts
    python benchmarks/lookahead.py --layers 4 --minutes 1  # a quick look
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sparse import alone
from sparsecomp.cli.schedule import compare_timelines
from sparsecomp.evaluate.timing import TOKENS
from sparsecomp.options import Dtype, Overlap
from sparsecomp.runtime import Model, load
from synthetic import Imposed, Shape, compile_imposed, write_model
from turns import Ratio, Seconds, take_turns

PROMPT = 8
IDS = 4096
"""Random ones: the model has no text."""
SCHEDULES = {
    "lookahead 0": (0, Overlap()),
    "lookahead 1, as it stands": (1, Overlap(move=False, fill=False)),
    "lookahead 1, moved": (1, Overlap(fill=False)),
    "lookahead 1, in idle time": (1, Overlap()),
}


def main() -> None:
    options = _arguments()
    options.build.mkdir(parents=True, exist_ok=True)
    shape = Shape(*(getattr(options, name) for name in Shape.__match_args__))
    paths = _compile(shape, options)
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(load(path)) for path in paths]
        ids = np.random.default_rng(0).integers(shape.vocabulary, size=IDS).tolist()
        seconds = take_turns(models, ids, PROMPT, options.tokens, options.minutes * 60)
        _print_speeds(seconds, options)
        for name, model in zip(SCHEDULES, models, strict=True):
            print(f"{name}: {_timelines(model, shape)}", flush=True)


def _compile(shape: Shape, options: argparse.Namespace) -> list[Path]:
    """The artifacts, in the order of SCHEDULES."""
    model_dir = options.build / shape.name
    alone(write_model, model_dir, shape)
    paths = []
    for number, (lookahead, overlap) in enumerate(SCHEDULES.values()):
        path = options.build / f"{shape.name}-lookahead-{number}.spz"
        imposed = Imposed(options.density, None, lookahead)
        alone(
            compile_imposed, model_dir, path, shape, imposed, Dtype.BF16, options.threads, overlap
        )
        paths.append(path)
    return paths


def _print_speeds(seconds: Seconds, options: argparse.Namespace) -> None:
    print(f"{len(seconds)} rounds of {options.tokens} tokens; medians")
    for name, taken in zip(SCHEDULES, seconds.T, strict=True):
        speed, ratio = options.tokens / np.median(taken), Ratio.of(seconds[:, 0], taken)
        print(
            f"{name:28} {speed:7.2f} tokens/s  {ratio}",
            flush=True,
        )


def _timelines(model: Model, shape: Shape) -> str:
    numbers = random.Random(0)
    ids = [numbers.randrange(shape.vocabulary) for _ in range(PROMPT + TOKENS)]
    return compare_timelines(model, ids, PROMPT).summary()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--density", type=float, default=0.1, help="share of neurons [%(default)s]")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of turns [%(default)s]; about two more follow"
    )
    parser.add_argument(
        "--tokens", type=int, default=2, help="tokens that a turn decodes [%(default)s]"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder for what is made")
    for name, size in asdict(Shape()).items():
        parser.add_argument(f"--{name}", type=int, default=size)
    options = parser.parse_args()
    if options.tokens < 1:
        parser.error(f"--tokens {options.tokens}: must be at least 1")
    room = PROMPT + max(options.tokens, TOKENS)
    if options.positions < room:
        parser.error(f"--positions {options.positions}: must be at least {room}")
    return options


if __name__ == "__main__":
    main()
