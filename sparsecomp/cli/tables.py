"""Tables on the terminal: names at the left, figures at the right."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

FILE_WIDTH = 200
"""Columns where there is no terminal: names are not cut."""


def console() -> Console:
    """Stdout, for tables."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)


def table(title: str, *columns: str) -> Table:
    """An empty table with a heading."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right")
    return made
