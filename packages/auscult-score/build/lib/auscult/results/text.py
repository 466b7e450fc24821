"""Markdown and LaTeX of a `table.Document`: headings, paragraphs, tables, and the notes numbered at the end."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping

from auscult.results.names import UNKNOWN
from auscult.results.table import VERDICTS, Cell, Column, Document, Row, Table

FEW_CLIPS = "\u2020"
"""Behind an interval of so few clips that it may not cover what it says."""
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    FEW_CLIPS: r"$^{\dagger}$",
    UNKNOWN: "--",
    **{character: "\\" + character for character in "&%$#_"},
}


def markdown(document: Document) -> str:
    """A file of GitHub Markdown."""
    notes: dict[str, int] = {}
    lines = [f"# {markdown_escape(document.title)}"]
    for paragraph in document.preamble:
        lines += ["", paragraph]
    for heading, tables in document.sections:
        lines += ["", f"## {markdown_escape(heading)}"] if heading else []
        for table in tables:
            level = "###" if heading else "##"
            lines += ["", f"{level} {markdown_escape(table.caption)}"]
            lines += ["", *markdown_table(table, notes)] if table.columns else []
    lines += [""] if notes else []
    lines += [f"<sup>{number}</sup> {markdown_escape(note)}  " for note, number in notes.items()]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(table: Table, notes: dict[str, int] | None = None) -> list[str]:
    """Lines of one table; `notes` (footnote -> its number) grows by those of its cells."""
    style = _Markdown({} if notes is None else notes)
    rule = "".join("---|" if column.kind == "label" else "---:|" for column in table.columns)
    rows = (" | ".join(row) for row in [style.head(table), *(style.row(table, row) for row in table.rows)])
    head, *body = (f"| {row} |" for row in rows)
    return [head, f"|{rule}", *body]


def latex(document: Document) -> str:
    """A file of LaTeX tables (packages booktabs and adjustbox); the notes below the last one."""
    style = _Latex({})
    lines = [f"% {_one_line(document.title)}", "% needs \\usepackage{booktabs,adjustbox}"]
    lines += [f"% {_one_line(paragraph)}" for paragraph in document.preamble]
    for heading, tables in document.sections:
        for table in tables:
            titles = [text for text in (document.title, heading, table.caption) if text]
            columns = "".join("l" if column.kind == "label" else "r" for column in table.columns)
            lines += [
                r"\begin{table}[t]",
                r"\centering",
                rf"\caption{{{latex_escape(': '.join(titles))}}}",
                r"\begin{adjustbox}{max width=\linewidth}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(style.head(table)) + r" \\",
                r"\midrule",
                *(" & ".join(style.row(table, row)) + r" \\" for row in table.rows),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{adjustbox}",
                r"\end{table}",
            ]
    lines += [rf"\noindent {style.mark(number)} {latex_escape(note)}\\" for note, number in style.notes.items()]
    return "\n".join(lines) + "\n"


class _Markup(ABC):
    """How a cell is written in one markup."""

    def __init__(self, notes: dict[str, int]) -> None:
        self.notes = notes

    @abstractmethod
    def escape(self, text: str) -> str: ...

    @abstractmethod
    def styled(self, text: str, style: str) -> str: ...

    @abstractmethod
    def mark(self, number: int) -> str: ...

    def head(self, table: Table) -> list[str]:
        return [self._title(column, table.reference) for column in table.columns]

    def _title(self, column: Column, reference: str) -> str:
        title = self.escape(column.title)
        return f"{title} to {self.styled(reference, 'code')}" if column.kind == "difference" else title

    def row(self, table: Table, row: Row) -> list[str]:
        cells = zip(table.columns, row.cells, strict=True)
        return ["" if column.kind == "cost" and row.repeats else self.cell(cell, column) for column, cell in cells]

    def cell(self, cell: Cell, column: Column) -> str:
        """ "69.1 ± 0.4 [66.0, 72.3]", "-3.2 [-5.1, -1.2] worse", or words in place of a number; then the footnote."""
        words = self.styled(cell.text, cell.style) if cell.text else ""
        rest = "" if cell.std is None else f" ± {cell.std:.1f}"
        if cell.interval is not None:
            rest += f" [{cell.interval[0]:.1f}, {cell.interval[1]:.1f}]{FEW_CLIPS if cell.few_clips else ''}"
        if column.kind == "difference" and cell.mark in VERDICTS:
            rest += f" {cell.mark}"
        number = self.notes.setdefault(cell.note, len(self.notes) + 1) if cell.note else 0
        return words + self.escape(rest) + (self.mark(number) if number else "")


class _Markdown(_Markup):
    def escape(self, text: str) -> str:
        return markdown_escape(text)

    def styled(self, text: str, style: str) -> str:
        if style == "code":
            return f"`{text}`"
        around: Mapping[str, str] = {"bold": "**", "faint": "*"}
        return f"{around.get(style, '')}{self.escape(text)}{around.get(style, '')}"

    def mark(self, number: int) -> str:
        return f"<sup>{number}</sup>"


class _Latex(_Markup):
    def escape(self, text: str) -> str:
        return latex_escape(text)

    def styled(self, text: str, style: str) -> str:
        command = {"code": "texttt", "bold": "textbf", "faint": "textit"}.get(style)
        return rf"\{command}{{{self.escape(text)}}}" if command else self.escape(text)

    def mark(self, number: int) -> str:
        return rf"$^{{{number}}}$"


def markdown_escape(text: str) -> str:
    r"""Text that GitHub Markdown shows as it is, in a table too; what stands between back quotes stays code.

    >>> print(markdown_escape("a_b|_<c> `d_e`"))
    a_b\|\_\<c> `d_e`
    """
    parts = re.split(r"(`[^`]+`)", text)
    plain = [re.sub(r"([\\|*<`]|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    code = [part.replace("|", r"\|") for part in parts[1::2]]
    return "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)


def latex_escape(text: str) -> str:
    r"""
    >>> print(latex_escape("50 % of C:\\a_b"))
    50 \% of C:\textbackslash{}a\_b
    """
    return "".join(_LATEX.get(character, character) for character in text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
