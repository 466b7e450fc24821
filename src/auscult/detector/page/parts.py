"""What both pages say: which bundle, its threshold, and false alarms a day; and how a page is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from auscult import __version__
from auscult.data.audio import printable
from auscult.detector.folder import Bundle
from auscult.detector.page.charts import Scale
from auscult.detector.words import clock, counted
from auscult.files import atomic_file
from auscult.pages.rendering import environment, read, shared
from auscult.pages.spectrogram import STYLE

PACKAGE = "auscult.detector.page"
A_DAY = (("every hour", 24), ("every 10 minutes", 144), ("every minute", 1440))
"""How often a recording comes."""


def write_page(out: Path, template: str, **values: Any) -> Path:
    """Fill a template in, and write it as one file that needs no other; an old page is replaced as a whole."""
    style = shared("style.css") + read(PACKAGE, "plant.css")
    scripts = "\n".join((shared("base.js"), shared("sort.js"), read(PACKAGE, "plant.js")))
    made = f"{datetime.now():%Y-%m-%d %H:%M} by auscult {__version__}"
    text = environment(PACKAGE).get_template(template).render(
        style=style + STYLE.removeprefix("<style>").removesuffix("</style>"), script=scripts, made=made, **values
    )  # fmt: skip
    with atomic_file(out) as part:
        part.write_text(text, encoding="utf-8")
    return out


def number(value: float) -> str:
    """Four digits, with a minus that is one.

    >>> number(23.52719), number(-0.00123456)
    ('23.53', '\N{MINUS SIGN}0.001235')
    """
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def place(start: float, end: float) -> str:
    """Where a window lies: "0:05.0 to 0:15.0"; with hours where there are some."""
    return f"{clock(start)} to {clock(end)}"


def about(bundle: Bundle) -> dict[str, Any]:
    """What both pages say of a bundle, as text."""
    training = bundle.facts["training"]
    seconds = training["seconds"]
    fitted = datetime.fromtimestamp((bundle.folder / "normal.npy").stat().st_mtime)
    above = int((bundle.normal > bundle.threshold).sum())
    return {
        "name": bundle.name, "fitted": f"{fitted:%Y-%m-%d}", "recordings": counted(training["recordings"], "recording"),
        "minutes": f"{seconds / 60:,.1f} minutes" if seconds < 36000 else f"{seconds / 3600:,.1f} hours",
        "windows": counted(len(bundle.normal), "window"), "seconds": f"{bundle.window / bundle.sample_rate:g} s",
        "threshold": number(bundle.threshold), "rate": f"{100 * bundle.rule.rate:.3g} %", "above": above,
        "gamma": bundle.rule.by == "gamma", "native": bundle.backend == "native",
        "a_day": [(often, f"{bundle.rule.rate * count:.3g}") for often, count in A_DAY],
        "digest": bundle.digest, "method": bundle.method, "score": bundle.backend, "hz": f"{bundle.sample_rate} Hz",
        "channel": "mean of all" if bundle.channel == "mean" else str(bundle.channel),
    }  # fmt: skip


def in_words(at: Scale) -> str:
    """What a chart of scores is drawn against, for those who do not see it."""
    low, high = number(float(at.normal.min())), number(float(at.normal.max()))
    return f"the threshold is {number(at.threshold)}, normal sound scored from {low} to {high}"


def short_names(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """The folder that all files lie in, and what they are called from there."""
    parents = [str(path.parent) for path in paths]
    try:
        folder = os.path.commonpath(parents) if len(set(parents)) > 1 else parents[0]
    except ValueError:  # some from the root, some from here
        folder = ""
    start = folder or os.curdir
    return printable(folder), [printable(os.path.relpath(path, start) if folder else path) for path in paths]
