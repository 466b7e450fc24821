"""The page of `auscult score --html`: what was found first, then every recording, the alarms to listen to, and the threshold."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from auscult.detector.folder import Bundle
from auscult.detector.page.charts import MARKS, Scale, distribution, mark, over_recordings, over_time, scale
from auscult.detector.page.parts import about, in_words, number, place, short_names, write_page
from auscult.detector.page.sounds import Normal, NormalSounds, alone, beside, windows_at
from auscult.detector.places import require_page
from auscult.detector.score import FileScore, Windows, verdict_without_score
from auscult.detector.words import LABELS, counted, reason, rounded, tally
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats

ALARMS = 12
"""Recordings that are shown with sound and picture."""
BUDGET = 18_000_000
"""Characters of these: what stays of 30 MB belongs to the rest of the page."""
CURVES = 6
LONG = 8
"""Windows from which on the scores within a recording are drawn."""
ORDER = ("ANOMALOUS", "check recording", "unusable", "unreadable", "normal")
"""Of the list, the worst first."""


@dataclass
class Row:
    """A recording of the page: `found` or, where it has no score, `problem` (why) and `fix`; `start` and `score` are of its
    windows."""

    path: Path
    verdict: str
    found: FileScore | None
    problem: str
    start: Floats
    score: Floats
    name: str = ""
    anchor: str = ""

    @property
    def key(self) -> tuple[int, float]:
        return ORDER.index(self.verdict), -self.found.score if self.found else 0.0


class ScorePage:
    """Gathers what `auscult score` finds, and writes the page at the end.

    Args:
        out: the page; normal: folder of the recordings that the bundle was fitted to, to show the nearest one beside an alarm.

    Raises:
        AuscultError: the page cannot be written there, or there is no such folder.
    """

    def __init__(self, out: Path, bundle: Bundle, normal: Path | None = None) -> None:
        require_page(out)
        self.out, self.bundle = out, bundle
        self.normal = NormalSounds(bundle, normal) if normal else None
        self.rows: list[Row] = []

    def add(self, path: Path, found: FileScore | None, windows: Windows | None, error: Exception | None = None) -> None:
        """A recording that was scored, or the error that kept it from being."""
        if found is not None and windows is not None:
            verdict = found.verdict if found.verdict in ORDER else "check recording"
            self.rows.append(Row(path, verdict, found, "", windows.start, windows.score))
            return
        assert error is not None
        problem = "; ".join(filter(None, (reason(error), getattr(error, "fix", ""))))
        self.rows.append(Row(path, verdict_without_score(error), None, problem, np.empty(0), np.empty(0)))

    def write(self) -> Path:
        """Write the page.

        Raises:
            DiskFull: there is no room.
        """
        folder, names = short_names([row.path for row in self.rows])
        for row, name in zip(self.rows, names, strict=True):
            row.name = name
        worst = sorted(self.rows, key=lambda row: row.key)
        alarms, left = self._alarms(worst)
        scores = [row.found.score for row in self.rows if row.found]
        at = scale(self.bundle.threshold, self.bundle.normal, scores)
        return write_page(
            self.out, "score.html.j2", bundle=about(self.bundle), folder=folder, summary=summary(self.rows),
            counts=Counter(row.verdict for row in self.rows), labels=LABELS, verdicts=ORDER,
            rows=[self._listed(row) for row in worst], recordings=self._recordings(at), curves=self._curves(worst),
            beyond=sum(score > at.high for score in scores), number=number, alarms=alarms, left=left,
            normal=self.normal, spread=self._spread(at), keys=_keys({row.verdict for row in self.rows}),
            many=any(len(row.start) > 1 for row in self.rows),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------ list, charts
    def _listed(self, row: Row) -> dict[str, Any]:
        cells = {"name": row.name, "verdict": row.verdict, "score": None, "where": "", "anchor": row.anchor}
        if row.found is None:
            return {**cells, "why": row.problem}
        where = "the whole recording" if row.found.windows == 1 else place(row.found.start, row.found.end)
        return {**cells, "score": row.found.score, "where": where, "why": why(row.found, self.bundle)}

    def _recordings(self, at: Scale) -> str:
        if sum(row.found is not None for row in self.rows) < 2:
            return ""
        points = [
            (row.found.score, row.verdict, f"{row.name}: {number(row.found.score)}, {row.verdict}")
            if row.found else (math.nan, row.verdict, "")
            for row in self.rows
        ]  # fmt: skip
        return over_recordings(at, points, f"Scores of {counted(len(points), 'recording')}; {in_words(at)}")

    def _curves(self, worst: list[Row]) -> list[tuple[str, str]]:
        made = []
        for row in [row for row in worst if len(row.start) >= LONG][:CURVES]:
            at = scale(self.bundle.threshold, self.bundle.normal, row.score[np.isfinite(row.score)].tolist())
            label = f"Scores of the windows of {row.name}; {in_words(at)}"
            made.append((row.name, over_time(at, row.start, row.score, label)))
        return made

    def _spread(self, at: Scale) -> str:
        scored = [(row.found.score, row.verdict) for row in self.rows if row.found]
        label = f"How often normal sound has which score; {in_words(at)}"
        return distribution(at, sorted(scored, key=lambda one: one[1] != "normal"), label)

    # ------------------------------------------------------------------------------------------------------------ alarms
    def _alarms(self, worst: list[Row]) -> tuple[list[dict[str, str]], int]:
        """What is shown of the worst recordings, and how many more there are."""
        wanted = [row for row in worst if row.verdict in ORDER[:2]]
        shown: list[dict[str, str]] = []
        size = 0
        for row in wanted[:ALARMS]:
            assert row.found is not None
            pictures = self._pictures(row, row.found)
            size += len(pictures)
            if shown and size > BUDGET:
                break
            row.anchor = f"alarm-{len(shown) + 1}"
            cells = self._listed(row)
            shown.append({**cells, "pictures": pictures, "label": LABELS.get(row.verdict, row.verdict)})
        return shown, len(wanted) - len(shown)

    def _pictures(self, row: Row, found: FileScore) -> str:
        try:
            (window,) = windows_at(self.bundle, row.path, [round(found.start * self.bundle.sample_rate)])
            if not len(window):
                raise AuscultError("it is shorter than it was")
            normal = self.normal.nearest(window) if self.normal else None
            caption = escape(f"{row.name}, {place(found.start, found.end)}")
            if normal is None or self.normal is None:
                return alone(self.bundle, window, "This recording", caption)
            captions = (caption, escape(self._of_normal(normal)))
            return beside(self.bundle, window, normal, self.normal.next_to(normal), captions)
        except (AuscultError, OSError) as error:  # it was there a moment ago
            return f"<p>Not shown: {escape(reason(error))}.</p>"

    def _of_normal(self, normal: Normal) -> str:
        words = f"{normal.name}, {place(normal.start, normal.start + len(normal.window) / self.bundle.sample_rate)}"
        if normal.nearer:
            words += f" ({counted(normal.nearer, 'nearer recording')} not in the folder, or changed)"
        return words


def summary(rows: list[Row]) -> str:
    """ "42 recordings: 39 normal, 2 ANOMALOUS, 1 to check" """
    return f"{counted(len(rows), 'recording')}: {', '.join(words for _, words in tally(row.verdict for row in rows))}"


def why(found: FileScore, bundle: Bundle) -> str:
    """What a verdict rests on, in words."""
    as_high = round(found.p_value * (len(bundle.normal) + 1)) - 1
    usual = (
        f"{as_high or 'none'} of {len(bundle.normal)} windows of normal sound score{'s' if as_high < 2 else ''} as high"
    )
    if found.windows == 1:
        side = "above" if found.score > bundle.threshold else "not above"
        parts = [f"{side} the threshold of {number(bundle.threshold)}", usual]
    else:
        parts = [
            f"{found.above:,} of {found.windows:,} windows above the threshold, "
            f"{rounded(found.expected)} expected of normal sound",
            f"in its most anomalous one, {usual}",
        ]
    return "; ".join([*parts, found.warning] if found.warning else parts)


def _keys(verdicts: set[str]) -> list[tuple[str, str]]:
    """The legend: a mark, and what it means."""
    return [
        (f'<svg class="chart key" viewBox="0 0 16 16" aria-hidden="true">{mark(MARKS[name], 8, 8)}</svg>',
         LABELS.get(name, name))
        for name in ("normal", "ANOMALOUS", "check recording") if name in verdicts
    ]  # fmt: skip
