"""What the options want to see of the pipeline."""

from __future__ import annotations

from sparsecomp.observer import Observer
from sparsecomp.options import CompileOptions
from sparsecomp.passes.pipeline import PIPELINE, Event


class Watcher:
    """Called before and after each pass: prints and dumps modules, and notes the passes' times."""

    def __init__(self, options: CompileOptions, observer: Observer):
        self.options = options
        self.observer = observer
        self.times: list[tuple[str, float]] = []
        if options.dump_dir is not None:
            options.dump_dir.mkdir(parents=True, exist_ok=True)

    def __call__(self, event: Event) -> None:
        name = event.step.run.name
        if event.seconds is None:
            if name in self.options.print_ir_before:
                self.observer.ir(str(event.module), name, "before")
            return
        self.times.append((name, event.seconds))
        self.observer.progress(event.number, len(PIPELINE))
        if name in self.options.print_ir_after:
            self.observer.ir(str(event.module), name, "after")
        if self.options.dump_dir is not None:
            file = self.options.dump_dir / f"{event.number:02}-{name}.mlir"
            file.write_text(f"{event.module}\n")
