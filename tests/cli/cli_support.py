"""What the tests of the command line share."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sparsecomp.errors import SparsecompError
from sparsecomp.observer import Observer
from sparsecomp.options import CompileOptions


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    def error_line(self) -> str:
        """The one line of a failure: nothing else on stderr, nothing on stdout."""
        lines = self.err.splitlines()
        assert self.out == "" and len(lines) == 1 and lines[0].startswith("error: "), self
        return lines[0].removeprefix("error: ")


Command = Callable[..., Result]


@dataclass
class Report:
    ir: str | None
    pass_times: list[tuple[str, float]]
    notes: tuple[str, ...] = ("a note",)


@dataclass
class FakeCompiler:
    """Stands in for `sparsecomp.compile` and `sparsecomp.opt`, and keeps what it was asked."""

    options: CompileOptions | None = None
    failure: BaseException | None = None
    optimised: list[tuple[str, list[str]]] = field(default_factory=list)

    def compile_model(self, options: CompileOptions, observer: Observer) -> Report:
        self.options = options
        observer.stage("frontend", "tiny")
        observer.progress(1, 2)
        for name in options.print_ir_before:
            observer.ir("builtin.module {}\n", name, "before")
        if self.failure is not None:
            raise self.failure
        if options.stop_after is None:
            options.output.write_bytes(b"artifact")
            return Report(None, [("first", 0.25), ("second", 0.5)])
        return Report("func.func @decode", [("first", 0.25)])

    def optimise(
        self,
        text: str,
        passes: list[str],
        recipe: object = None,
        dtype: object = None,
        rank: int = 0,
        ranks: int = 1,
        device: object = None,
    ) -> str:
        if "unknown" in passes:
            raise SparsecompError("no pass is called unknown")
        self.optimised.append((text, passes))
        return text.replace("// flaky\n", "") + f"// {len(passes)}\n" * bool(passes)

    def list_passes(self) -> list[tuple[str, str, str]]:
        return [("aten", "fold", "Folds."), ("spz", "raise-norms", "Raises norms.")]
