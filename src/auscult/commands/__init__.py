"""The commands of `auscult`, one file each; `cli.py` lists them.

A command is a function that declares its arguments and returns what runs it. Its docstring is its help, the last paragraph
`Example: auscult ...`; what it needs is imported when it runs, so that `auscult --help` answers at once.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence

Command = Callable[[Namespace], int]
"""What runs: parsed arguments -> exit status (0 = as it should be, 1 = not; 2 is for what the user can mend)."""


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of equal length in aligned columns; the first one is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
