"""What the native kernels reach of the machine's limits, each measured beside its limit.

Decode kernels (weights and caches of 270 MB, bf16 unless named, all workers) against a plain read
of the same buffer; prefill kernels (one core) against independent multiply-adds in registers.
Kernel and limit alternate; the share is the median of their ratios, the rate a median too.

    python benchmarks/kernels.py --workers 2 --target native
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = HERE.parent / "sparsecomp" / "codegen" / "native"
FLAGS = ("-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-pthread")


def measure(workers: int, target: str) -> list[list[str]]:
    """Rows of (kernel, rate, unit, share in percent, limit)."""
    with tempfile.TemporaryDirectory() as scratch:
        program = str(Path(scratch) / "kernels")
        source = ["-I", str(KERNELS), str(HERE / "kernels.cpp"), "-o", program]
        options = [f"-march={target}", f"-DWORKERS={workers}"]
        subprocess.run(["g++", *FLAGS, *options, *source], check=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return [line.split("\t") for line in lines.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--target", default="native", help="instruction set, for the compiler")
    args = parser.parse_args()
    for name, rate, unit, share, limit in measure(args.workers, args.target):
        compared = f"{share:>4} % of {limit}" if limit else ""
        print(f"{name:<40}{rate:>8} {unit:<9}{compared}")


if __name__ == "__main__":
    main()
