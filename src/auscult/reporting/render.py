"""Markdown and LaTeX text of the cells that `tables` collects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from auscult.evaluation import machine_order
from auscult.reporting.names import CONVENTIONS, METRICS, SETS, backend_name, machine_name

_PAIRED = "Bold: better than every other row of the block, by the paired bootstrap interval of the difference."
_APART = "Bold: the best, and its interval overlaps that of no other row of the block."


@dataclass
class Block:
    """One table: caption, column headings, rows (two labels, then a cell per machine)."""

    caption: str
    columns: list[str]
    rows: list[tuple[str, str, list[str]]] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """How a cell is written in one markup."""

    bold: Callable[[str], str]
    faint: Callable[[str], str]
    code: Callable[[str], str]
    text: Callable[[str], str]
    mark: Callable[[int], str]


def markdown(cells: pd.DataFrame, title: str, paired: bool) -> str:
    """All blocks as GitHub Markdown tables; notes at the end."""
    style = Format(
        bold=lambda text: f"**{text}**",
        faint=lambda text: f"*{text}*",
        code=lambda text: f"`{text}`",
        text=_plain_markdown,
        mark=lambda number: f"<sup>{number}</sup>",
    )
    blocks, notes = _blocks(cells, style)
    lines = [f"# {_plain_markdown(title)}", "", *_preamble(paired)]
    for block in blocks:
        lines += ["", f"## {block.caption}", "", "| arm | score | " + " | ".join(block.columns) + " |"]
        lines.append("|---|---|" + "---:|" * len(block.columns))
        lines += ["| " + " | ".join([arm, score, *texts]) + " |" for arm, score, texts in block.rows]
    lines += [""] if notes else []
    lines += [f"{style.mark(number)} {_plain_markdown(note)}  " for note, number in notes.items()]
    return "\n".join(lines).rstrip() + "\n"


def latex(cells: pd.DataFrame, title: str, paired: bool) -> str:
    """All blocks as LaTeX tables (package booktabs); notes below each file's last table."""
    style = Format(
        bold=lambda text: rf"\textbf{{{text}}}",
        faint=lambda text: rf"\textit{{{text}}}",
        code=lambda text: rf"\texttt{{{_plain_latex(text)}}}",
        text=_plain_latex,
        mark=lambda number: rf"$^{{{number}}}$",
    )
    blocks, notes = _blocks(cells, style)
    lines = [f"% {title}", "% needs \\usepackage{booktabs}", *[f"% {line}" for line in _preamble(paired)]]
    for block in blocks:
        lines += [
            r"\begin{table}[t]",
            r"\centering\scriptsize",
            rf"\caption{{{_plain_latex(f'{title}: {block.caption}')}}}",
        ]
        lines += [rf"\begin{{tabular}}{{ll{'r' * len(block.columns)}}}", r"\toprule"]
        lines += [" & ".join(["arm", "score", *block.columns]) + r" \\", r"\midrule"]
        lines += [" & ".join([arm, score, *texts]) + r" \\" for arm, score, texts in block.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    lines += [rf"\noindent {style.mark(number)} {_plain_latex(note)}\\" for note, number in notes.items()]
    return "\n".join(lines) + "\n"


def _preamble(paired: bool) -> list[str]:
    return [
        "Percent, with the bootstrap interval over test clips in brackets. Each block forms its numbers as its title",
        f"says; numbers of different blocks do not compare. {_PAIRED if paired else _APART}",
    ]


def _blocks(cells: pd.DataFrame, style: Format) -> tuple[list[Block], dict[str, int]]:
    """Blocks with formatted cells, and the notes with their numbers in order of appearance."""
    notes: dict[str, int] = {}
    blocks = []
    for keys, of_block in cells.groupby(["set", "convention", "metric"], sort=False):
        set_name, convention, metric = (str(key) for key in keys)
        machines = sorted(of_block["machine"].unique(), key=machine_order)
        caption = f"{METRICS.get(metric, metric)}, {SETS.get(set_name, set_name)}"
        if metric != "mauc":
            caption += f", {CONVENTIONS[convention]}"
        block = Block(caption, [style.text(machine_name(machine)) for machine in machines])
        for arm, score, row in _rows(of_block):
            if arm:
                texts = [_ours(row[machine], style, notes) for machine in machines]
                block.rows.append((style.code(arm), style.text(score), texts))
                continue
            texts = [style.faint(str(row[machine].printed)) if machine in row else "" for machine in machines]
            note = next(cell.note for cell in row.values())
            block.rows.append(("", style.faint(style.text(score)) + _mark(note, style, notes), texts))
        blocks.append(block)
    return blocks, notes


def _rows(of_block: pd.DataFrame) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(arm, score label, machine -> cell) in reading order: each arm's scores and printed row, then the other printed rows.

    The arm of a printed row is "": it stands below the arm it belongs to.
    """
    ours = of_block[of_block["printed_row"] == ""]
    paper = of_block[of_block["printed_row"] != ""]
    for arm, of_arm in ours.groupby("arm", sort=False):
        for backend, row in of_arm.groupby("backend", sort=False):
            yield str(arm), backend_name(str(backend)), _by_machine(row)
        for name, row in paper[paper["arm"] == arm].groupby("printed_row", sort=False):
            yield "", f"printed: {name}", _by_machine(row)
    rest = paper[~paper["arm"].isin(set(ours["arm"]))]
    for name, row in rest.groupby("printed_row", sort=False):
        yield "", f"printed: {name}", _by_machine(row)


def _by_machine(row: pd.DataFrame) -> dict[str, Any]:
    return {cell.machine: cell for cell in row.itertuples(index=False)}  # type: ignore[misc]


def _ours(cell: Any, style: Format, notes: dict[str, int]) -> str:
    """A cell with a number of ours, "69.1 [66.0, 72.3]", or why there is none."""
    if cell.note:
        return cell.note.split(":")[0] + ("" if cell.note == "not run" else _mark(cell.note, style, notes))
    value = f"{cell.value:.1f}"
    interval = "" if pd.isna(cell.ci_low) else f" [{cell.ci_low:.1f}, {cell.ci_high:.1f}]"
    return (style.bold(value) if cell.best else value) + interval


def _mark(note: str, style: Format, notes: dict[str, int]) -> str:
    return style.mark(notes.setdefault(note, len(notes) + 1)) if note else ""


def _plain_markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("_", r"\_")


def _plain_latex(text: str) -> str:
    for character in "&%$#_":
        text = text.replace(character, "\\" + character)
    return text
