"""Tables for people: coloured where that is seen, and as wide as the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TextIO

COLOURS = {"red": "1;31", "yellow": "33", "green": "32", "bold": "1"}
SHORTEST = 12
"""Letters of a name that stay; then columns go."""


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour of `COLOURS` if `stream` (None = the standard output) is a terminal and NO_COLOR is not set."""
    shown = (stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour and shown else text


def tame(text: str) -> str:
    r"""Names and words of a stranger without what commands a terminal; lines stay.

    >>> tame("a\x1b[2Jb\n  where: c")
    'a?[2Jb\n  where: c'
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "?", text)


def shortened(text: str, width: int) -> str:
    """Its beginning and its end, of `width` columns at most.

    >>> shortened("recordings/2026-05-01/pump.wav", 17), shortened("pump.wav", 17)
    ('recordi...ump.wav', 'pump.wav')
    """
    if columns(text) <= width:
        return text
    head, tail = text, text
    while columns(head) > (width - 3 + 1) // 2:
        head = head[:-1]
    while columns(tail) > (width - 3) // 2:
        tail = tail[1:]
    return f"{head}...{tail}"


def wrapped(text: str) -> str:
    """`text` in lines as wide as the terminal; elsewhere in one."""
    if not sys.stdout.isatty():
        return text
    return textwrap.fill(text, shutil.get_terminal_size().columns, subsequent_indent="  ")


def columns(text: str) -> int:
    """Of a terminal, where Chinese letters take two and accents none.

    >>> columns("pump"), columns("泵"), columns("a\\u0301")
    (4, 2, 1)
    """
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(bool(unicodedata.combining(letter)) for letter in text)


def fitting(rows: Sequence[Sequence[str]], drop: Sequence[int], width: int) -> list[list[str]]:
    """Rows (the heading first) as narrow as `width`: the first column is shortened in the middle, as far as that is enough, and
    before it is cut below `SHORTEST` letters, or two names become one, columns go in the order of `drop`.

    >>> rows = [["file", "seconds", "verdict"], ["a/long/name/of/a/recording.wav", "10.00", "normal"]]
    >>> fitting(rows, [1], 40)[1]
    ['a/long/nam...rding.wav', '10.00', 'normal']
    >>> fitting(rows, [1], 25)[1]
    ['a/long/...ng.wav', 'normal']
    >>> fitting([*rows, ["a/long/name/of/a/recorting.wav", "10.00", "normal"]], [1], 32)[2]
    ['a/long/nam...orting.wav', 'normal']
    """
    names = [row[0] for row in rows]
    least = min(SHORTEST, max(map(columns, names)))
    kept, ways = list(range(len(rows[0]))), []
    for column in [-1, *drop]:
        if column >= 0:
            kept.remove(column)
        room = width - sum(max(columns(row[i]) for row in rows) + 2 for i in kept[1:])
        ways.append((room, kept[1:], [shortened(name, max(room, SHORTEST)) for name in names]))
    wide = [way for way in ways if way[0] >= least] or ways[-1:]
    apart = [way for way in wide if len(set(way[2])) == len(set(names))] or wide
    _, others, shown = apart[0]
    return [[name, *(row[i] for i in others)] for name, row in zip(shown, rows, strict=True)]


def print_table(
    rows: Sequence[Sequence[str]], drop: Sequence[int] = (), colours: Mapping[str, str] | None = None
) -> None:
    """Print rows in aligned columns; in a terminal no line is broken.

    Args:
        rows: of equal length, the heading first.
        drop: numbers of the columns that a narrow terminal can do without, the first to go first.
        colours: of cells, by their text.
    """
    rows = [[re.sub(r"[\n\t]", "?", tame(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        rows = fitting(rows, drop, shutil.get_terminal_size().columns)
    print("\n".join(aligned(rows, colours or {})))


def aligned(rows: Sequence[Sequence[str]], colours: Mapping[str, str], right: bool = False) -> list[str]:
    """Lines of rows in columns, which but for the first are set to the right if `right`.

    >>> aligned([["file", "score"], ["a.wav", "1.5"]], {}, right=True)
    ['file   score', 'a.wav    1.5']
    """
    widths = [max(columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells: list[str] = []
        for cell, width in zip(row, widths, strict=True):
            room, text = " " * (width - columns(cell)), paint(cell, "" if row is rows[0] else colours.get(cell, ""))
            cells.append(room + text if right and cells else text + room)
        lines.append("  ".join(cells).rstrip())
    return lines
