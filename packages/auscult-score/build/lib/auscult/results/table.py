"""A table as data: what stands in its cells. `text` writes it as Markdown and LaTeX, the page of results as HTML.

Every table of results goes through it: those of the papers, of the back-ends, of confusions, and of README.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["", "code", "bold", "faint"]
Kind = Literal["label", "number", "difference", "paper", "cost"]
VERDICTS = ("better", "worse", "tie")


@dataclass(frozen=True)
class Cell:
    """One cell: a number and what belongs to it, or the words in its place.

    Attributes:
        text: the number as it is read, or why there is none.
        value: the number itself, by which a page sorts; None = none.
        interval: its bounds.
        std: its deviation over training seeds.
        style: "bold" (better than every other row), "faint" (printed in a paper), "code" (a name).
        mark: "better", "worse", "tie": the verdict of the difference to the reference.
        difference: that difference in words.
        few_clips: there are so few that the interval may not cover what it says.
        note: footnote.
        printed: what the paper prints in its place.
    """

    text: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    std: float | None = None
    style: Style = ""
    mark: str = ""
    difference: str = ""
    few_clips: bool = False
    note: str = ""
    printed: str = ""


@dataclass(frozen=True)
class Column:
    """A heading, and what stands below it: a "cost" is an arm's, and said once per arm where rows of an arm follow each other."""

    title: str
    kind: Kind = "number"


@dataclass(frozen=True)
class Row:
    """Cells under the columns of a table.

    Attributes:
        arm: whose row it is; of a printed row the arm that reproduces it, or "".
        backend: key of the back-end.
        paper: table of a paper that prints this row; "" = a row of ours.
        repeats: the row before is of the same arm.
    """

    cells: Sequence[Cell]
    arm: str = ""
    backend: str = ""
    paper: str = ""
    repeats: bool = False


@dataclass(frozen=True)
class Table:
    """One table; all of its numbers are formed alike.

    Attributes:
        key: set, convention and metric of its numbers, where it has these.
        reference: arm that differences are to.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    key: tuple[str, str, str] = ("", "", "")
    reference: str = ""


@dataclass(frozen=True)
class Document:
    """Tables with what is to be said of them: a title, paragraphs, and sections of a heading and its tables.

    A section without a heading stands directly below the paragraphs. `code` stands between back quotes.
    """

    title: str
    preamble: Sequence[str] = ()
    sections: Sequence[tuple[str, Sequence[Table]]] = field(default_factory=tuple)


def number(row: Any, digits: int = 1, style: Style = "", note: str = "") -> Cell:
    """A number of `evaluation.evaluate` with its interval and deviation.

    >>> from types import SimpleNamespace
    >>> cell = number(SimpleNamespace(value=69.14, ci_low=66.0, ci_high=72.26, std=float("nan")))
    >>> cell.text, cell.interval, cell.std
    ('69.1', (66.0, 72.26), None)
    """
    return Cell(
        f"{row.value:.{digits}f}",
        float(row.value),
        None if math.isnan(row.ci_low) else (float(row.ci_low), float(row.ci_high)),
        known(getattr(row, "std", math.nan)),
        style,
        few_clips=str(getattr(row, "few_clips", False)) == "True",
        note=note,
    )


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> Table:
    """A table of words: the first `labels` columns are to the left."""
    heads = [Column(title, "label" if place < labels else "number") for place, title in enumerate(columns)]
    return Table("", heads, [Row([Cell(text) for text in row]) for row in rows])


def signed(value: float) -> str:
    """
    >>> signed(1.26), signed(-0.04)
    ('+1.3', '+0.0')
    """
    return f"{round(value, 1) + 0.0:+.1f}"


def known(value: Any) -> float | None:
    """A number, or None where it is NaN."""
    return None if math.isnan(float(value)) else float(value)


def amount_text(amount: float) -> str:
    """Three significant digits, without an exponent.

    >>> [amount_text(amount) for amount in (0.00123, 1.305, 180.2, 12345.0, 0)]
    ['0.00123', '1.30', '180', '12345', '0']
    """
    if amount == 0 or abs(amount) >= 100:
        return f"{amount:.0f}"
    return f"{amount:.{max(0, 2 - math.floor(math.log10(abs(amount))))}f}"
