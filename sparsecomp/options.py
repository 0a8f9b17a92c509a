"""What a compile is asked to do; the compiler's only reader of the environment."""

import os
import re
import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sparsecomp.errors import SparsecompError


class Dtype(StrEnum):
    """The type weights are stored in. With f32 the KV cache is f32 too, else bf16.

    Sums are always float32; a decode step rounds what it multiplies with 8 or 4 bits to 15.
    """

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    """8 bits, 32 weights to a scale; the high 4 are a 4-bit weight of their own."""
    INT4 = "int4"


class Sparsity(StrEnum):
    """Whether a decode step may leave part of the model unread."""

    OFF = "off"
    AUTO = "auto"
    """As much as calibration, the budget, a density or a recipe allow."""


class Target(StrEnum):
    """The instruction set a program is compiled for."""

    X86_64_V3 = "x86-64-v3"
    X86_64_V4 = "x86-64-v4"
    NATIVE = "native"
    AARCH64 = "aarch64"


class CudaTarget(StrEnum):
    """The NVIDIA architecture that kernels are compiled for."""

    SM_80 = "cuda:sm_80"
    SM_90 = "cuda:sm_90"
    SM_100 = "cuda:sm_100"

    @property
    def arch(self) -> int:
        """Its compute capability times ten."""
        return int(self.value.removeprefix("cuda:sm_"))


class Device(StrEnum):
    """What a program runs on."""

    CPU = "cpu"
    CUDA = "cuda"


MAX_WORKERS = 1024
MAX_SHARDS = 64
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_hub_id(model: Path) -> bool:
    """Whether `model` names a model of the Hugging Face Hub (`org/name`) and no path here."""
    return not model.exists() and _HUB_ID.fullmatch(str(model)) is not None


def usable_cpus() -> int:
    """CPUs this process may run on (fewer than the machine's under taskset or a container)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cxx_from_environment() -> tuple[str, ...]:
    """The C++ compiler named by CXX as a command with its arguments; empty: find one."""
    value = os.environ.get("CXX", "")
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise SparsecompError(
            f"environment variable CXX is not a command: {value!r} ({error})"
        ) from error


DEFAULT_BUDGET = 0.01


@dataclass(frozen=True, kw_only=True)
class SparsityOptions:
    """How to decide what a decode step leaves unread.

    `calibration` are files of UTF-8 text or directories of .txt files (none: a text of the
    package's own). `max_ppl_increase` is the budget, a share: perplexity may rise by this factor.
    `density` fixes the share of neurons that every MLP reads instead, `recipe` every decision; both
    leave no budget to keep. `lookahead` is how many blocks earlier a predictor reads its input.
    `seed` is that of the predictors' training. Work that a rerun can use lies in
    `calibration_dir`; None: it is kept no longer than the compile.

    Raises SparsecompError when an option cannot work.
    """

    calibration: tuple[Path, ...] = ()
    max_ppl_increase: float = DEFAULT_BUDGET
    density: float | None = None
    recipe: Path | None = None
    lookahead: int = 0
    seed: int = 0
    calibration_dir: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_ppl_increase < 1:
            raise SparsecompError(
                f"--max-ppl-increase is {self.max_ppl_increase:g}; it must be above 0 and below "
                "100%, such as 1%"
            )
        if self.density is not None and not 0 < self.density <= 1:
            raise SparsecompError(
                f"--density is {self.density:g}; it must be above 0 and at most 1"
            )
        if self.density is not None and self.recipe is not None:
            raise SparsecompError("give one of --density and --recipe")
        if self.lookahead not in (0, 1, 2):
            raise SparsecompError(f"--lookahead is {self.lookahead}; it must be 0, 1 or 2")
        if self.seed < 0:
            raise SparsecompError(f"--seed is {self.seed}; it must be 0 or more")
        if self.recipe is not None and not self.recipe.is_file():
            raise SparsecompError(f"recipe {self.recipe} is not a file that is there")
        for path in self.calibration:
            if not path.exists():
                raise SparsecompError(f"calibration text {path} does not exist")

    @property
    def searches(self) -> bool:
        """Whether plans are tried until one keeps the budget."""
        return self.density is None and self.recipe is None


@dataclass(frozen=True)
class Overlap:
    """What a schedule makes of predictions that are known early; to measure each by itself.

    `move`: they stand beside other work, without barriers of their own. `fill`: a worker that is
    done, or waits, does them for one that is not.
    """

    move: bool = True
    fill: bool = True


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """Everything a compile depends on besides the model directory's files.

    `model_dir` may also be a Hub id, `org/name`, to download.

    `targets` are instruction sets, NVIDIA architectures, or both: one artifact has a program for
    each. `sparsity` is None for a dense program. `context` is in positions (None: all that the
    model supports). `shards` is over how many ranks the model is split; the IR that is printed or
    dumped is then rank 0's, and that for a GPU where there is no CPU among the targets. `overlap`
    turns uses of lookahead off, for ablations. Pass names in `print_ir_before`, `print_ir_after`
    and `stop_after` are checked by the pipeline, which knows them. `cxx` is the compiler command
    (empty: the compiler looks for one).

    Raises SparsecompError when an option cannot work.
    """

    model_dir: Path
    output: Path
    dtype: Dtype = Dtype.BF16
    sparsity: SparsityOptions | None = None
    targets: tuple[Target | CudaTarget, ...] = (Target.NATIVE,)
    workers: int = field(default_factory=usable_cpus)
    context: int | None = None
    shards: int = 1
    overlap: Overlap = Overlap()
    print_ir_before: tuple[str, ...] = ()
    print_ir_after: tuple[str, ...] = ()
    stop_after: str | None = None
    dump_dir: Path | None = None
    time_passes: bool = False
    cxx: tuple[str, ...] = field(default_factory=cxx_from_environment)

    def __post_init__(self) -> None:
        self._check_model_dir()
        if self.stop_after is None:
            self._check_output()
        self._check_program()
        if self.dump_dir is not None and self.dump_dir.exists() and not self.dump_dir.is_dir():
            raise SparsecompError(f"--dump-dir {self.dump_dir} is not a directory")

    @property
    def cpu_targets(self) -> tuple[Target, ...]:
        return tuple(target for target in self.targets if isinstance(target, Target))

    @property
    def cuda_targets(self) -> tuple[CudaTarget, ...]:
        return tuple(target for target in self.targets if isinstance(target, CudaTarget))

    def _check_model_dir(self) -> None:
        if is_hub_id(self.model_dir):
            return
        if not self.model_dir.exists():
            raise SparsecompError(
                f"model directory {self.model_dir} does not exist; give a local directory with "
                "config.json, *.safetensors and tokenizer.json, or a Hub id such as org/name"
            )
        if not self.model_dir.is_dir():
            raise SparsecompError(
                f"{self.model_dir} is a file; give the directory that holds the model's config.json"
            )
        if not (self.model_dir / "config.json").is_file():
            raise SparsecompError(
                f"{self.model_dir} has no config.json; give a Hugging Face model directory"
            )

    def _check_output(self) -> None:
        if self.output.is_dir():
            raise SparsecompError(f"output {self.output} is a directory; give a file name")
        if self.output.exists() and not self.output.is_file():
            # Renaming the finished artifact there would replace the device or pipe.
            raise SparsecompError(f"output {self.output} is not a regular file; give a file name")
        parent = self.output.parent
        if not parent.is_dir():
            raise SparsecompError(f"output directory {parent} does not exist; create it first")
        if not os.access(parent, os.W_OK):
            raise SparsecompError(f"output directory {parent} is not writable")

    def _check_program(self) -> None:
        if not self.targets:
            raise SparsecompError(
                f"no target given; choose from {', '.join((*Target, *CudaTarget))}"
            )
        if len(set(self.targets)) != len(self.targets):
            raise SparsecompError(f"a target is given twice: {', '.join(self.targets)}")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise SparsecompError(
                f"workers is {self.workers}; it must be between 1 and {MAX_WORKERS}"
            )
        if not 1 <= self.shards <= MAX_SHARDS:
            raise SparsecompError(f"shards is {self.shards}; it must be between 1 and {MAX_SHARDS}")
        if self.context is not None and self.context < 1:
            raise SparsecompError(f"context is {self.context}; it must be at least 1 position")
