"""What lookahead buys at a real size: decode speed with early predictions, use by use.

Synthetic weights, speed only (see synthetic.py): a model of OPT-1.3B's shape whose predictors read
their own block's input, and the same with that of the block before: scheduled as its kernels stand,
with predictions beside other work, and with these done in idle time too. The artifacts decode the
same random tokens in turns, in one process. Prints medians and the spread; asserts nothing.

    python benchmarks/lookahead.py
    python benchmarks/lookahead.py --layers 4 --rounds 20  # a quick look
"""

from __future__ import annotations

import argparse
import os
import random
from dataclasses import asdict
from pathlib import Path

from sparse import alone
from sparsecomp.evaluate.speed import race
from sparsecomp.options import Dtype, Overlap
from sparsecomp.runtime import load
from synthetic import Imposed, Shape, compile_imposed, write_model

PROMPT = 8
SCHEDULES = {
    "lookahead 0": (0, Overlap()),
    "lookahead 1, as it stands": (1, Overlap(move=False, fill=False)),
    "lookahead 1, moved": (1, Overlap(fill=False)),
    "lookahead 1, in idle time": (1, Overlap()),
}


def main() -> None:
    options = _arguments()
    options.build.mkdir(exist_ok=True)
    shape = Shape(*(getattr(options, name) for name in Shape.__match_args__))
    model_dir = options.build / shape.name
    alone(write_model, model_dir, shape)
    models = []
    for number, (lookahead, overlap) in enumerate(SCHEDULES.values()):
        path = options.build / f"{shape.name}-lookahead-{number}.spz"
        imposed = Imposed(options.density, None, lookahead)
        alone(
            compile_imposed, model_dir, path, shape, imposed, Dtype.BF16, options.threads, overlap
        )
        models.append(load(path))
    numbers = random.Random(0)
    ids = [numbers.randrange(shape.vocabulary) for _ in range(PROMPT + options.tokens)]
    for name, speed in zip(
        SCHEDULES, race(models, ids, prompt=PROMPT, rounds=options.rounds), strict=True
    ):
        decode, ratio = speed.decode, speed.ratio
        print(
            f"{name:28} {decode.median:7.2f} tokens/s ({decode.low:.2f} to {decode.high:.2f})  "
            f"{ratio.median:5.3f}x ({ratio.low:.3f} to {ratio.high:.3f})"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--density", type=float, default=0.1, help="share of neurons [%(default)s]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=8, help="tokens that a turn decodes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder for what is made")
    for name, size in asdict(Shape()).items():
        parser.add_argument(f"--{name}", type=int, default=size)
    return parser.parse_args()


if __name__ == "__main__":
    main()
