"""How results are put into words, by the terminal and by the pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from auscult.errors import AuscultError, listed

LABELS = {"check recording": "to check"}
"""Verdicts that are shown under another name."""
VERDICTS = ("normal", "ANOMALOUS", "check recording", "unusable", "unreadable")


def tally(verdicts: Iterable[str]) -> list[tuple[str, str]]:
    """(verdict, how many), without those of which there is none; of verdicts or of their counts.

    >>> tally(["normal", "check recording", "normal"]) == tally(Counter({"normal": 2, "check recording": 1}))
    True
    >>> tally(["normal", "check recording", "normal"])
    [('normal', '2 normal'), ('check recording', '1 to check')]
    """
    counts = Counter(verdicts)
    return [(each, f"{counts[each]:,} {LABELS.get(each, each)}") for each in VERDICTS if counts[each]]


def counted(count: int, one: str) -> str:
    """
    >>> counted(1, "recording"), counted(1200, "recording")
    ('1 recording', '1,200 recordings')
    """
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def rounded(count: float) -> str:
    """How many are expected.

    >>> rounded(0.31), rounded(1234.5)
    ('0.31', '1,234')
    """
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def clock(seconds: float) -> str:
    """
    >>> clock(5.04), clock(3725.0)
    ('0:05.0', '1:02:05.0')
    """
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def reason(error: Exception) -> str:
    """Why something cannot be done, without its place and what to do."""
    if isinstance(error, AuscultError):
        return error.what
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def with_reasons(reasons: Mapping[str, str], limit: int = 20) -> str:
    """Recordings and why they are not used, one per line; see `errors.listed`."""
    return listed([f"{name}: {why}" for name, why in reasons.items()], limit)
