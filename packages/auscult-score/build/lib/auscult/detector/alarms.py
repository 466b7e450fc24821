"""When single judgements become an alarm: k of the last n, and for how long. No files, no clocks: judgements in, events out.

A judgement is a recording of `auscult watch`, or a window of `auscult listen`, that was judged: one without a score, or whose
level or silence explains it (`check recording`), is none. One bundle is one machine, and has one alarm:

    condition   at least k of the last n judgements are anomalous (k suffice where there are not n yet)
    raised      by the first judgement at which the condition holds
    cleared     by the first judgement at which the condition has not held for `hold` seconds, without a break

so that an alarm that was raised is not raised again before it has been quiet for that long. Time passes by judgements
alone: a machine from which nothing is heard keeps its alarm. A clock that is set back adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from auscult.errors import AuscultError

MOST = 1000
"""Judgements that a rule may look back on."""
NAMED = 20
"""Recordings that an event names at most, the latest ones."""
Event = dict[str, Any]
"""JSON: see docs/deploy.md, "Alarms"."""


@dataclass(frozen=True)
class Rule:
    """At least `k` of the last `n`; quiet for `hold` seconds before it is over.

    >>> Rule.of("3/5", 600)
    Rule(k=3, n=5, hold=600.0)

    Raises:
        AuscultError: not 1 <= k <= n <= `MOST`, or no such time.
    """

    k: int
    n: int
    hold: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n <= MOST:
            what = f"an alarm of {self.k}/{self.n}: K of the last N needs 1 <= K <= N <= {MOST}"
            raise AuscultError(what, fix="3/5 means that three of the last five recordings are anomalous")
        if not 0 <= self.hold < math.inf:
            raise AuscultError(f"an alarm cannot be held for {self.hold:g} seconds", fix="--hold 600 means ten minutes")

    @classmethod
    def of(cls, text: str, hold: float) -> Rule:
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", text):
            raise AuscultError(f"`{text}` is no rule for an alarm", fix="use K/N, such as 3/5")
        k, n = text.split("/")
        return cls(int(k), int(n), float(hold))

    def __str__(self) -> str:
        return f"{self.k}/{self.n}"


class Judgement(NamedTuple):
    """What an alarm knows of a recording, or of a window of a stream (`start`: seconds into it)."""

    time: str
    file: str
    start: float
    score: float
    threshold: float | None
    anomalous: bool
    bundle: str
    digest: str


def judgement(row: Mapping[str, Any]) -> Judgement | None:
    """Of a line of an output, as values or as text; None where nothing was judged.

    >>> row = {"time": "2026-01-01T08:00:00+00:00", "file": "a.wav", "start": "0.0", "score": "2.5", "anomalous": "1",
    ...        "threshold": "2.0", "bundle": "pump", "bundle_digest": "12ab", "note": ""}
    >>> judgement(row).anomalous, judgement({**row, "note": "check recording: digital silence"})
    (True, None)
    """
    score, note = row.get("score"), str(row.get("note") or "")
    if score in (None, "") or note.startswith("check recording"):
        return None
    threshold = row.get("threshold")
    return Judgement(
        str(row["time"]), str(row.get("file") or row.get("source") or ""), float(row.get("start") or 0), float(score),
        None if threshold in (None, "") else float(threshold), bool(int(row["anomalous"])), str(row["bundle"]),
        str(row.get("bundle_digest") or ""),
    )  # fmt: skip


class Alarm:
    """Whether an alarm is on, after what has been judged so far.

    >>> alarm, clock = Alarm(Rule(2, 3, hold=60)), "2026-01-01T08:{:02d}:00+00:00"
    >>> heard = [True, False, True, False, False, False, True]
    >>> events = [alarm.add(Judgement(clock.format(i), f"{i}.wav", 0, 1, 0, each, "pump", ""), i)
    ...           for i, each in enumerate(heard)]
    >>> [event and event["event"] for event in events]
    [None, None, 'raised', None, 'cleared', None, None]

    Attributes:
        rule: None = nothing raises an alarm, and what is judged is only remembered.
        on: the event that raised the alarm which is on; None = none is.
    """

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule
        self.on: Event | None = None
        self._recent: deque[Judgement] = deque(maxlen=MOST)
        self._quiet: float | None = None  # seconds for which the condition has not held; None = it holds

    def change(self, rule: Rule | None) -> None:
        """Another rule from the next judgement on; an alarm that is on stays on, and none is raised for what is past."""
        self.rule, self._quiet = rule, None
        if rule is None:
            self.on = None

    def add(self, found: Judgement, number: int) -> Event | None:
        """What the next judgement, from line `number` of the output, makes of the alarm.

        Raises:
            ValueError: its time is none.
        """
        step = _seconds(self._recent[-1].time, found.time) if self._recent else 0.0
        self._recent.append(found)
        if self.rule is None:
            return None
        last = list(self._recent)[-self.rule.n :]
        anomalous = [each for each in last if each.anomalous]
        if len(anomalous) >= self.rule.k:
            self._quiet = None
            if self.on is None:
                self.on = self._event("raised", number, anomalous, len(last))
                return self.on
            return None
        self._quiet = 0.0 if self._quiet is None else self._quiet + max(0.0, step)
        if self.on is None or self._quiet < self.rule.hold:
            return None
        event = {**self._event("cleared", number, anomalous, len(last)), "alarm": self.on["id"]}
        self.on = None
        return event

    def _event(self, kind: str, number: int, anomalous: list[Judgement], of: int) -> Event:
        assert self.rule is not None
        last = self._recent[-1]
        key = json.dumps([kind, number, last.time, last.file, last.start, last.bundle, last.digest])
        identity = hashlib.sha256(key.encode()).hexdigest()[:16]
        made_by = anomalous[-NAMED:] if kind == "raised" else [last]
        return {
            "id": identity, "event": kind, "alarm": identity, "time": last.time, "bundle": last.bundle,
            "bundle_digest": last.digest, "rule": str(self.rule), "hold": self.rule.hold, "anomalous": len(anomalous),
            "of": of,
            "recordings": [
                {name: getattr(each, name) for name in ("file", "start", "time", "score", "threshold")} for each in made_by
            ],
        }  # fmt: skip


def _seconds(before: str, after: str) -> float:
    return (_moment(after) - _moment(before)).total_seconds()


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
