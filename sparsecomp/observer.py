"""What a compile tells whoever watches it."""

from typing import Literal, Protocol

When = Literal["before", "after"]


class Observer(Protocol):
    """Receives the events of one compile, in order, on the compiling thread."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage begins; the one before it is over."""

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` units of the current stage are finished (the stage picks its unit)."""

    def ir(self, text: str, pass_name: str, when: When) -> None:
        """IR that the options asked to see, as parsable text."""


class SilentObserver:
    """Watches nothing: for compiles from Python."""

    def stage(self, name: str, detail: str = "") -> None:
        pass

    def progress(self, done: int, total: int) -> None:
        pass

    def ir(self, text: str, pass_name: str, when: When) -> None:
        pass
