"""Whether normal sound has moved away from what a bundle was fitted to, by what `auscult watch` wrote.

A new normal recording falls with equal probability into each of the n + 1 gaps between the scores of n normal ones. So the
number of m new ones above the threshold has a beta-binomial distribution (the number of exceedances: Gumbel and von Schelling,
Ann. Math. Stat. 21, 1950), in which it counts how few the n are: after 60 of them, 17 of 100 above a threshold for a tenth are no
finding. The same with the median finds what moves below the threshold. Both are looked at in every period, and the bound is
divided by how often: the probability of a false verdict over all of them is `FALSE` at most.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betaincinv

from auscult.detector.manifest import MOST_BYTES, Manifest, check_files, read_manifest
from auscult.detector.output import rows_of, whole_lines
from auscult.detector.reading import read_array
from auscult.detector.thresholds import needed, quantile
from auscult.errors import AuscultError

FALSE = 0.01
FIRST = 20
"""Recordings at the beginning with which the others are compared, where they have more than one window each."""
_COLUMNS = ("time", "bundle", "score", "p_value", "seconds", "note")
_LEVEL = re.compile(r"level \S+ dB (above|below)")


def surprise(above: int, count: int, rate: float, normals: int) -> float:
    """Probability that `above` or more of `count` new normal recordings exceed a threshold taken at `rate` from `normals` others.

    >>> [round(surprise(above, 100, 0.1, 60), 4) for above in (10, 17, 31)]
    [0.48, 0.0938, 0.0005]
    """
    gaps = max(1, math.floor(rate * (normals + 1) + 1e-9))
    from scipy.stats import betabinom  # half a second, which scoring need not wait for

    return float(betabinom.sf(above - 1, count, gaps, normals + 1 - gaps))


def interval(above: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Of a share, `above` of `count` (Clopper and Pearson, Biometrika 26, 1934).

    >>> [round(end, 3) for end in interval(3, 40)]
    [0.016, 0.204]
    """
    tail = (1 - level) / 2
    low = float(betaincinv(above, count - above + 1, tail)) if above > 0 else 0.0
    return low, float(betaincinv(above + 1, count - above, 1 - tail)) if above < count else 1.0


@dataclass(frozen=True)
class Period:
    """Recordings of a day, a week or a number of them.

    Attributes:
        name: which.
        recordings, above: how many, and how many of them above the limit.
        share: of these, with its 95 % interval `low`, `high`.
        p_value: the median; 0.5 expected, where a recording is one window.
        louder, softer: recordings whose level was noted to be above or below all of training.
        moved: whether chance does not explain it.
    """

    name: str
    recordings: int
    above: int
    share: float
    low: float
    high: float
    p_value: float
    louder: int
    softer: int
    moved: bool


@dataclass(frozen=True)
class Drift:
    """What the periods say together.

    Attributes:
        limit: what is exceeded: the bundle's threshold, or, with `compared_with` > 0, the score that `expected` of so many
            recordings at the beginning exceed, because a recording is more than one window.
        expected: share above it.
        since: the period from which on normal sound has moved; "" = it has not, or is back.
        other_lines: of another bundle, or of this one before an update: not counted; `unscored`: without a score.
    """

    periods: tuple[Period, ...]
    limit: float
    expected: float
    compared_with: int
    since: str
    other_lines: int
    unscored: int


def drift(bundle: Path | str, journal: Path | str, per: str = "day") -> Drift:
    """What a journal tells of normal sound over time.

    Args:
        journal: output of `auscult watch`, .csv or .jsonl.
        per: "day", "week" (by the time of scoring, UTC), or a number of recordings.

    Raises:
        AuscultError: no bundle; no such journal; lines of other bundles alone; too few.
    """
    folder, journal = Path(bundle), Path(journal)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    normal = read_array(folder / "normal.npy", np.float64, 1, MOST_BYTES["normal.npy"])
    limit, rate, normals, first = manifest.threshold.value, manifest.threshold.rate, int(manifest.independent), 0
    lines = _lines(journal)
    own = [line for line in lines if manifest.digest.startswith(str(line.get("bundle_digest") or ""))]
    own = [line for line in own if line["bundle"] == manifest.name]
    scored = sorted((line for line in own if line["score"] not in ("", None)), key=lambda line: str(line["time"]))
    if not scored:
        what = f"no line with a score is by this bundle, {manifest.name} ({manifest.digest[:8]})"
        raise AuscultError(what, str(journal), "give the bundle that `auscult watch` uses, as it is now")
    score = np.array([_number(line["score"], journal) for line in scored])
    middle = float(np.median(normal))
    if sum(_windows(manifest, _number(line["seconds"], journal)) > 1 for line in scored) > 0.1 * len(scored):
        first = normals = max(FIRST, needed(rate) + 1)
        if len(scored) <= first:
            what = f"{len(scored)} recordings, of more than one window each: others are compared with the first {first} of them"
            raise AuscultError(what, str(journal), "come back when there are more")
        limit, middle = quantile(score[:first], rate), float(np.median(score[:first]))
    names = _periods([str(line["time"]) for line in scored], per)
    later = np.arange(len(scored)) >= first
    distinct = list(dict.fromkeys(names[first:]))
    bound = FALSE / (2 * len(distinct))
    periods = []
    for name in distinct:
        rows = np.flatnonzero(later & (np.array(names) == name))
        count, above = len(rows), int((score[rows] > limit).sum())
        high = int((score[rows] > middle).sum())
        levels = [found.group(1) for row in rows if (found := _LEVEL.search(str(scored[row]["note"] or "")))]
        least = min(surprise(above, count, rate, normals), surprise(high, count, 0.5, normals))
        p_value = float(np.median([_number(scored[row]["p_value"], journal) for row in rows]))
        counts = name, count, above, above / count, *interval(above, count), p_value
        periods.append(Period(*counts, levels.count("above"), levels.count("below"), least < bound))
    return Drift(tuple(periods), limit, rate, first, _since(periods), len(lines) - len(own), len(own) - len(scored))


def _since(periods: list[Period]) -> str:
    """The first of the periods that have moved up to the last one; those of a few recordings tell nothing."""
    since = ""
    for period in reversed(periods):
        if period.moved:
            since = period.name
        elif period.recordings >= 5:
            break
    return since


def _windows(manifest: Manifest, seconds: float) -> int:
    rest = seconds * manifest.sample_rate - manifest.window
    return 1 + max(0, math.ceil(rest / manifest.hop - 0.01))


def _periods(times: list[str], per: str) -> list[str]:
    """Of recordings in order of time, the name of the period of each.

    >>> _periods(["2026-05-03T08:00", "2026-05-04T08:00", "2026-05-04T09:00"], "week")
    ['2026 week 18', '2026 week 19', '2026 week 19']
    >>> _periods(["2026-05-03T08:00", "2026-05-04T08:00", "2026-05-04T09:00"], "2")
    ['1 to 2', '1 to 2', '3 to 4']
    """
    if per == "day":
        return [time[:10] for time in times]
    if per == "week":
        weeks = [date.fromisoformat(time[:10]).isocalendar() for time in times]
        return [f"{week.year} week {week.week}" for week in weeks]
    if not per.isdecimal() or int(per) < 1:
        raise AuscultError(f"`{per}` is no period", fix="use day, week or a number of recordings")
    size = int(per)
    return [f"{place // size * size + 1} to {place // size * size + size}" for place in range(len(times))]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal; one without an end, which is being written, is left out."""

    def check(row: dict[str, Any]) -> None:
        date.fromisoformat(str(row["time"])[:10])
        if missing := [name for name in _COLUMNS if name not in row]:
            raise KeyError(missing[0])

    fix = "give the --out of `auscult watch`, .csv or .jsonl"
    if not path.is_file():
        raise AuscultError("there is no such file", str(path), fix)
    found = [row for _, row in rows_of(path, whole_lines(path), "auscult watch", check)]
    if not found:
        raise AuscultError("there is no line of `auscult watch` in this file yet", str(path), fix)
    return found


def _number(value: Any, path: Path) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise AuscultError(f"`{str(value)[:20]}` is no number", str(path), "mend the line") from None
    return number
