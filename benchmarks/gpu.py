"""Are the GPU kernels right, and how fast do they decode? One command, below 9 minutes on a H200.

First whole decode steps of small random models are compared with references in float32 and with the
CPU's program. Then decoding is measured at the shapes of OPT-6.7B and Llama-2-7B, with synthetic
weights (see gpu_models.py): our programs, dense and sparse, beside torch in bf16 under a CUDA graph
and a kernel that skips small inputs (TEAL, arXiv 2408.14690). All take turns. A time is that of a
replayed step; tokens/s have the token's way in and its logits' way out besides. The read bandwidth
is that of a kernel which only reads.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --quick             # 2 layers of each shape
    python benchmarks/gpu.py --only checks       # no timing

What failed, or did not fit into --minutes, is named and left out. Exits with 1 where a check
failed, with 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.spread import Spread
from sparsecomp.options import CudaTarget
from sparsecomp.runtime.cuda import open_device
from sparsecomp.runtime.launch import Code

if TYPE_CHECKING:
    from gpu_checks import Checked
    from gpu_models import Family, Made
    from gpu_rivals import Decoder

CONTEXTS = {"OPT-6.7B": (128, 1024, 2047), "Llama-2-7B": (128, 1024, 8191)}
"""What the positions of each allow."""
LAYERS = 32
TARGETS = {8: CudaTarget.SM_80, 9: CudaTarget.SM_90, 10: CudaTarget.SM_100}
"""By the major version of the compute capability."""


@dataclass(frozen=True)
class Figures:
    """One contender at one context. `milliseconds` of a replayed step; `tokens` a second with the
    host's part; `ratio` of the milliseconds of our own dense program to these, in the same round;
    `bound` is the share of the read bandwidth, by the bytes that the step must read."""

    family: str
    layers: int
    context: int
    name: str
    dense: bool
    milliseconds: Spread
    tokens: Spread
    ratio: Spread
    bytes: int
    bound: float
    chosen: dict[str, float]


@dataclass(frozen=True)
class Contender:
    """`at` a context: what replays a step, and what decodes a token."""

    name: str
    dense: bool
    at: Callable[[int], tuple[Callable[[], None], Callable[[], None]]]
    bytes: Callable[[int], int]
    chosen: Callable[[int], dict[Any, float]] = lambda context: {}


@dataclass
class Budget:
    """Seconds from the start, and what each stage took of them."""

    limit: float
    start: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.limit - (time.monotonic() - self.start)

    def allows(self, stage: str, seconds: float) -> bool:
        """Whether so much is left; what is not done is remembered."""
        if self.left < seconds:
            self.skipped.append(stage)
            say(f"{stage}: left out, {self.left:.0f} s are left")
        return self.left >= seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = time.monotonic() - begun
            say(f"{name}: {self.stages[name]:.1f} s, {self.left:.0f} s left")


def say(line: str) -> None:
    """Progress, beside what is printed."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    options = _arguments()
    try:
        device = open_device()
    except SparsecompError as error:
        print(f"nothing is measured: {error}")
        sys.exit(2)
    say(f"{device.name}, sm_{device.arch}, CUDA {device.driver // 1000}; seed {options.seed}")
    budget = Budget(options.minutes * 60)
    checked: list[Checked] = []
    found: list[Figures] = []
    target = TARGETS[min(device.arch // 10, max(TARGETS))]
    with tempfile.TemporaryDirectory(dir=options.build, prefix="gpu-") as name, _pool(8) as pool:
        folder = Path(name)
        # Programs are made by other cores meanwhile.
        making = {} if options.only == "checks" else _make(pool, target, folder, options)
        if options.only != "decode":
            checked = _checked(pool, target, folder, options, budget)
        bandwidth = _bandwidth(budget) if making else 0.0
        for family, futures in making.items():
            if budget.allows(f"{family}", 60):
                with budget.stage(f"{family}, programs made"):
                    made = list(_results(futures, budget, f"a program of {family}"))
                if not made or made[0].build.neurons is not None:
                    continue  # there is no dense one to compare with; why is said
                try:
                    _measure(family, made, bandwidth, options, budget, found)
                except SparsecompError as error:  # such as too little memory
                    budget.skipped.append(f"{family} ({error})")
    _report(checked, found, bandwidth, options, budget)
    failed = any("check" in what for what in budget.skipped)
    sys.exit(1 if failed or not all(check.passed for check in checked) else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 layers of each shape, fewer rounds")
    parser.add_argument("--only", choices=("checks", "decode"), help="one of the two parts")
    parser.add_argument("--minutes", type=float, default=8.5, help="limit [%(default)s]")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=20, help="steps of a turn [%(default)s]")
    parser.add_argument("--density", type=float, default=0.1, help="OPT's neurons [%(default)s]")
    parser.add_argument("--head-density", type=float, default=0.5)
    parser.add_argument("--gate-density", type=float, default=0.5, help="Llama's neurons")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    parser.add_argument("--build", type=Path, help="folder for what is made, 8 GB meanwhile")
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    options = parser.parse_args()
    options.layers = 2 if options.quick else LAYERS
    if options.quick:
        options.rounds = min(options.rounds, 5)
    return options


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that compile; what they were not done with at the end is dropped."""
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


Result = TypeVar("Result")


def _results(futures: Iterable[Future[Result]], budget: Budget, what: str) -> Iterator[Result]:
    """What came of them in time; what failed, or came too late, is said and left out."""
    for future in futures:
        try:
            yield future.result(max(budget.left, 1))
        except Exception as error:  # whatever a compile may raise
            reason = str(error).partition("\n")[0] or type(error).__name__
            budget.skipped.append(f"{what} ({reason})")
            say(f"{what}: {reason}")


# ---- checks ----


def _checked(
    pool: ProcessPoolExecutor,
    target: CudaTarget,
    folder: Path,
    options: argparse.Namespace,
    budget: Budget,
) -> list[Checked]:
    from gpu_checks import cases, check

    found = []
    with budget.stage("checks"):
        futures = [pool.submit(check, case, target, options.seed, folder) for case in cases()]
        for result in _results(futures, budget, "a check"):
            found.append(result)
            say(f"  {_verdict(result)}")
    return found


def _verdict(checked: Checked) -> str:
    cpu = "" if checked.cpu is None else f", {checked.cpu:.1e} off the CPU's"
    return (
        f"{'right' if checked.passed else 'WRONG'}  {checked.case:48} {checked.reference:.1e} "
        f"off the reference{cpu}; {checked.tolerance:.0e} allowed"
    )


# ---- decoding ----


def _make(
    pool: ProcessPoolExecutor, target: CudaTarget, folder: Path, options: argparse.Namespace
) -> dict[Family, list[Future[Made]]]:
    """The programs of each family, dense first."""
    from gpu_models import Build, Family, make

    neurons, heads, layers = options.density, options.head_density, options.layers
    opt = [Build(Family.OPT, layers)]
    opt += [
        Build(Family.OPT, layers, neurons, share, ahead) for share in (None, heads)
        for ahead in (0, 1)
    ]  # fmt: skip
    llama = [
        Build(Family.LLAMA, layers),
        Build(Family.LLAMA, layers, options.gate_density),
        Build(Family.LLAMA, layers, options.gate_density, heads),
    ]
    code = Code(f"sm_{target.arch}")
    made: dict[Family, list[Future[Made]]] = {}
    for family, builds in ((Family.OPT, opt), (Family.LLAMA, llama)):
        made[family] = [pool.submit(make, build, code, folder / family) for build in builds]
    return made


def _bandwidth(budget: Budget) -> float:
    from gpu_rivals import read_bandwidth

    with budget.stage("read bandwidth"):
        found = Spread.of(read_bandwidth())
    say(f"  {found.median / 1e12:.2f} TB/s ({found.low / 1e12:.2f} to {found.high / 1e12:.2f})")
    return found.median


def _measure(
    family: Family,
    made: Sequence[Made],
    bandwidth: float,
    options: argparse.Namespace,
    budget: Budget,
    found: list[Figures],
) -> None:
    """Adds the figures at each context that time allows."""
    import torch

    from gpu_models import config_of
    from gpu_programs import OnGpu
    from gpu_rivals import Decoder

    with budget.stage(f"{family}, weights"):
        programs = [OnGpu(one) for one in made]
        decoder = Decoder(config_of(family, options.layers), max(CONTEXTS[family]))
    contenders = [
        Contender(p.made.build.name, p.made.build.neurons is None, p.at, p.bytes, p.chosen)
        for p in programs
    ]
    share = options.density if "OPT" in family else options.gate_density
    contenders += _rivals(decoder, share)
    for context in CONTEXTS[family]:
        if budget.allows(f"{family} at {context}", 30):
            with budget.stage(f"{family} at {context}"):
                found += _race(family, contenders, context, bandwidth, options, budget)
    for program in programs:
        program.close()
    del programs, decoder, contenders
    gc.collect()
    torch.cuda.empty_cache()


def _rivals(decoder: Decoder, share: float) -> list[Contender]:
    from gpu_rivals import Linear, capture, dense, skipping

    def contender(name: str, linear: Linear, read: float, compiled: bool) -> Contender:
        def at(context: int) -> tuple[Callable[[], None], Callable[[], None]]:
            decoder.skip(read)
            replay, logits = capture(lambda: decoder.step(context, linear, compiled))

            def token() -> None:
                decoder.token.fill_(7)
                replay()
                logits.cpu()

            return replay, token

        def size(context: int) -> int:
            decoder.skip(read)
            return decoder.bytes(context)

        return Contender(name, read == 1.0, at, size)

    return [
        contender("torch bf16, CUDA graph", dense, 1.0, False),
        contender("torch.compile bf16, CUDA graph", dense, 1.0, True),
        contender(f"threshold, {share:.0%} of inputs of MLPs", skipping, share, False),
    ]


def _race(
    family: str,
    contenders: Sequence[Contender],
    context: int,
    bandwidth: float,
    options: argparse.Namespace,
    budget: Budget,
) -> list[Figures]:
    """All contenders that work here, in turns; the first is our dense program."""
    ready: list[tuple[Contender, Callable[[], None], Callable[[], None]]] = []
    for contender in contenders:
        try:
            ready.append((contender, *contender.at(context)))
        except Exception as error:  # torch's compiler may raise anything
            if contender is contenders[0]:
                raise
            reason = str(error).partition("\n")[0] or type(error).__name__
            budget.skipped.append(f"{contender.name} at {context} ({reason})")
            say(f"  {contender.name} at {context}: {reason}")
    steps: list[list[float]] = [[] for _ in ready]
    tokens: list[list[float]] = [[] for _ in ready]
    for round in range(options.rounds + 1):  # the first is not counted
        for place, (_, replay, token) in enumerate(ready):
            times = _seconds(replay, options.tokens), _seconds(token, options.tokens)
            if round:
                steps[place].append(times[0] * 1e3)
                tokens[place].append(1 / times[1])
    return [
        Figures(
            family=family,
            layers=options.layers,
            context=context,
            name=contender.name,
            dense=contender.dense,
            milliseconds=Spread.of(took),
            tokens=Spread.of(speeds),
            ratio=Spread.of([first / own for first, own in zip(steps[0], took, strict=True)]),
            bytes=contender.bytes(context),
            bound=contender.bytes(context) / bandwidth / (Spread.of(took).median / 1e3),
            chosen=contender.chosen(context),
        )
        for (contender, _, _), took, speeds in zip(ready, steps, tokens, strict=True)
    ]


def _seconds(step: Callable[[], None], count: int) -> float:
    """Of one step, on average."""
    import torch

    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / count


# ---- the report ----


def _report(
    checked: Sequence[Checked],
    found: Sequence[Figures],
    bandwidth: float,
    options: argparse.Namespace,
    budget: Budget,
) -> None:
    if options.json:
        record = {
            "seed": options.seed,
            "bandwidth": bandwidth,
            "checks": [asdict(check) | {"passed": check.passed} for check in checked],
            "decode": [asdict(figures) for figures in found],
            "seconds": budget.stages,
            "left_out": budget.skipped,
        }
        print(json.dumps(record, indent=2))
        return
    if checked:
        wrong = [check.case for check in checked if not check.passed]
        print(f"{len(checked) - len(wrong)} of {len(checked)} checks passed", *wrong, sep="; ")
    if found:
        print(
            f"read bandwidth {bandwidth / 1e12:.2f} TB/s; ratios to our own dense, to the fastest"
        )
    heading = None
    for figures in found:
        if heading != (figures.family, figures.context):
            heading = (figures.family, figures.context)
            print(f"\n{figures.family}, {figures.layers} layers, context {figures.context}")
        print(_line(figures, _fastest_dense(found, figures)))
    if budget.skipped:
        print("\nleft out:", *budget.skipped, sep="\n  ")


def _fastest_dense(found: Sequence[Figures], like: Figures) -> float:
    """Milliseconds of the fastest that reads everything, at the same shape and context."""
    place = (like.family, like.context)
    return min(f.milliseconds.median for f in found if f.dense and (f.family, f.context) == place)


def _line(figures: Figures, fastest: float) -> str:
    ms, ratio = figures.milliseconds, figures.ratio
    chosen = "".join(f", {kind} {share:.1%} chosen" for kind, share in figures.chosen.items())
    return (
        f"  {figures.name:54} {ms.median:7.3f} ms ({ms.low:.3f} to {ms.high:.3f})  "
        f"{ratio.median:5.2f}x ({ratio.low:.2f} to {ratio.high:.2f})  "
        f"{fastest / ms.median:5.2f}x the fastest dense  "
        f"{figures.tokens.median:6.1f} tokens/s  {figures.bytes / 1e6:6.0f} MB  "
        f"{figures.bound:4.0%} of the bound{chosen}"
    )


if __name__ == "__main__":
    main()
