"""Markdown and LaTeX text of the cells that `tables` collects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pandas as pd

from auscult.evaluation.evaluate import machine_order
from auscult.papers import table_name
from auscult.results.names import CONVENTIONS, COSTS, METRICS, UNKNOWN, backend_name, machine_name, set_name

_MILLIONS = ("parameters", "macs_per_clip")


@dataclass
class Block:
    """One table: caption, column headings, rows (two labels, then a text per column), headings of the labels."""

    caption: str
    columns: list[str]
    rows: list[tuple[str, str, list[str]]] = field(default_factory=list)
    labels: tuple[str, str] = ("arm", "score")


@dataclass(frozen=True)
class Format:
    """How a cell is written in one markup."""

    bold: Callable[[str], str]
    faint: Callable[[str], str]
    code: Callable[[str], str]
    text: Callable[[str], str]
    mark: Callable[[int], str]


MARKDOWN = Format(
    bold=lambda text: f"**{text}**",
    faint=lambda text: f"*{text}*",
    code=lambda text: f"`{text}`",
    text=lambda text: _plain_markdown(text),
    mark=lambda number: f"<sup>{number}</sup>",
)
LATEX = Format(
    bold=lambda text: rf"\textbf{{{text}}}",
    faint=lambda text: rf"\textit{{{text}}}",
    code=lambda text: rf"\texttt{{{_plain_latex(text)}}}",
    text=lambda text: _plain_latex(text),
    mark=lambda number: rf"$^{{{number}}}$",
)


def markdown(cells: pd.DataFrame, title: str, preamble: Sequence[str], reference: str, costs: bool) -> str:
    """All blocks as GitHub Markdown tables; notes at the end.

    Args:
        cells: columns `tables.CELL_COLUMNS`.
        title: heading of the file.
        preamble: paragraphs above the first block.
        reference: arm that a column of differences is about; "" = no such column.
        costs: whether there are columns of costs.
    """
    return markdown_text(*_blocks(cells, MARKDOWN, reference, costs), title, preamble)


def markdown_text(blocks: Sequence[Block], notes: Mapping[str, int], title: str, preamble: Sequence[str]) -> str:
    """Blocks, whose texts are Markdown, as one file; the notes at its end."""
    lines = [f"# {_plain_markdown(title)}"]
    for paragraph in preamble:
        lines += ["", paragraph]
    for block in blocks:
        lines += ["", f"## {block.caption}", "", "| " + " | ".join([*block.labels, *block.columns]) + " |"]
        lines.append("|---|---|" + "---:|" * len(block.columns))
        lines += ["| " + " | ".join([arm, score, *texts]) + " |" for arm, score, texts in block.rows]
    lines += [""] if notes else []
    lines += [f"{MARKDOWN.mark(number)} {_plain_markdown(note)}  " for note, number in notes.items()]
    return "\n".join(lines).rstrip() + "\n"


def latex(cells: pd.DataFrame, title: str, preamble: Sequence[str], reference: str, costs: bool) -> str:
    """All blocks as LaTeX tables (packages booktabs and adjustbox); notes below the last one. Arguments as `markdown`."""
    return latex_text(*_blocks(cells, LATEX, reference, costs), title, preamble)


def latex_text(blocks: Sequence[Block], notes: Mapping[str, int], title: str, preamble: Sequence[str]) -> str:
    """Blocks, whose texts are LaTeX, as one file; the notes at its end."""
    lines = [f"% {title}", "% needs \\usepackage{booktabs,adjustbox}", *[f"% {line}" for line in preamble]]
    for block in blocks:
        lines += [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_plain_latex(f'{title}: {block.caption}')}}}",
            r"\begin{adjustbox}{max width=\linewidth}",
        ]
        lines += [rf"\begin{{tabular}}{{ll{'r' * len(block.columns)}}}", r"\toprule"]
        lines += [" & ".join([*block.labels, *block.columns]) + r" \\", r"\midrule"]
        lines += [" & ".join([arm, score, *texts]) + r" \\" for arm, score, texts in block.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}", r"\end{table}"]
    lines += [rf"\noindent {LATEX.mark(number)} {_plain_latex(note)}\\" for note, number in notes.items()]
    return "\n".join(lines) + "\n"


def _blocks(cells: pd.DataFrame, style: Format, reference: str, costs: bool) -> tuple[list[Block], dict[str, int]]:
    """Blocks with formatted cells, and the notes with their numbers in order of appearance."""
    notes: dict[str, int] = {}
    grouped: dict[tuple[str, ...], list[Any]] = {}
    for cell in cells.itertuples(index=False):
        grouped.setdefault((cell.set, cell.convention, cell.metric), []).append(cell)  # type: ignore[arg-type]
    papers = set(cells["printed_table"]) - {""}
    blocks = []
    for (which_set, convention, metric), of_block in grouped.items():
        machines = sorted({cell.machine for cell in of_block}, key=machine_order)
        caption = f"{METRICS.get(metric, metric)}, {set_name(which_set, metric)}"
        if metric != "mauc":
            caption += f", {CONVENTIONS[convention]}"
        block = Block(caption, [style.text(machine_name(machine)) for machine in machines])
        block.columns += [f"difference to {style.code(reference)}"] if reference else []
        block.columns += list(COSTS.values()) if costs else []
        before = ""
        for row in _rows(of_block):
            one = next(iter(row.values()))
            if one.printed_row:
                texts = [_printed(row[machine], style, notes) if machine in row else "" for machine in machines]
                texts += [""] if reference else []
                texts += [style.faint(text) if text else "" for text in _printed_cost(one)] if costs else []
                label = f"printed: {one.printed_row}"
                label += f" ({table_name(one.printed_table)})" if len(papers) > 1 else ""
                block.rows.append(("", style.faint(style.text(label)) + _mark(one.row_note, style, notes), texts))
                continue
            texts = [_ours(row[machine], style, notes) for machine in machines]
            texts += [style.text(_difference(row["mean"] if "mean" in row else one))] if reference else []
            if costs:  # of the arm, whatever scores its embeddings: said once
                texts += [style.text(text) for text in _cost(one)] if one.arm != before else [""] * len(COSTS)
            before = one.arm
            score = style.text(backend_name(one.backend)) + _mark(one.row_note, style, notes)
            block.rows.append((style.code(one.arm), score, texts))
        blocks.append(block)
    return blocks, notes


def _rows(of_block: list[Any]) -> Iterator[dict[str, Any]]:
    """Rows (machine -> cell) in reading order: each arm's scores and its printed rows, then the other printed rows."""
    arms = list(dict.fromkeys(cell.arm for cell in of_block if not cell.printed_row))
    place = {arm: index for index, arm in enumerate(arms)}

    def row_of(cell: Any) -> tuple[Any, ...]:
        return (place.get(cell.arm, len(arms)), bool(cell.printed_row), order[_label(cell)])

    order: dict[tuple[str, ...], int] = {}
    for cell in of_block:
        order.setdefault(_label(cell), len(order))
    for _, cells in groupby(sorted(of_block, key=row_of), key=row_of):
        yield {cell.machine: cell for cell in cells}


def _label(cell: Any) -> tuple[str, ...]:
    return (cell.arm, cell.backend, cell.printed_table, cell.printed_row)


def _ours(cell: Any, style: Format, notes: dict[str, int]) -> str:
    """A cell with a number of ours, "69.1 ± 0.4 [66.0, 72.3]", or why there is none."""
    if cell.note:
        return cell.note.split(":")[0] + (_mark(cell.note, style, notes) if ":" in cell.note else "")
    value, rest = number_text(cell)
    return (style.bold(value) if cell.best else value) + style.text(rest)


def number_text(cell: Any) -> tuple[str, str]:
    """ "69.1" and " ± 0.4 [66.0, 72.3]" of a row of `evaluation.evaluate`, what is not known left out."""
    spread = "" if math.isnan(cell.std) else f" ± {cell.std:.1f}"
    interval = "" if math.isnan(cell.ci_low) else f" [{cell.ci_low:.1f}, {cell.ci_high:.1f}]"
    return f"{cell.value:.1f}", spread + interval


def _printed(cell: Any, style: Format, notes: dict[str, int]) -> str:
    return style.faint(str(cell.printed)) + _mark(cell.note, style, notes)


def _difference(cell: Any) -> str:
    """ "-3.2 [-5.1, -1.2] worse", "reference", or a dash where one of the two has no number."""
    if cell.verdict in ("better", "worse", "tie"):
        return f"{round(cell.difference, 1) + 0.0:+.1f} [{cell.difference_low:.1f}, {cell.difference_high:.1f}] {cell.verdict}"
    return "reference" if cell.verdict == "reference" else UNKNOWN


def _cost(cell: Any) -> list[str]:
    amounts = [float(getattr(cell, name)) / (1e6 if name in _MILLIONS else 1) for name in COSTS]
    return [UNKNOWN if math.isnan(amount) else amount_text(amount) for amount in amounts]


def _printed_cost(cell: Any) -> list[str]:
    """What a paper prints of a row's cost: its parameters, with the paper's digits."""
    known = not math.isnan(cell.parameters)
    return [f"{cell.parameters / 1e6:g}" if known and name == "parameters" else "" for name in COSTS]


def amount_text(amount: float) -> str:
    """Three significant digits, without an exponent: 0.00123, 1.31, 180, 12345."""
    if amount == 0 or abs(amount) >= 100:
        return f"{amount:.0f}"
    return f"{amount:.{max(0, 2 - math.floor(math.log10(abs(amount))))}f}"


def _mark(note: str, style: Format, notes: dict[str, int]) -> str:
    return style.mark(notes.setdefault(note, len(notes) + 1)) if note else ""


def _plain_markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("_", r"\_")


def _plain_latex(text: str) -> str:
    for character in "&%$#_":
        text = text.replace(character, "\\" + character)
    return text.replace("±", r"$\pm$").replace(UNKNOWN, "--")
