"""Which recordings are kept for testing. Clips of one recording are alike, so it is trained on or tested with as a whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from auscult.data.own.cutting import Measured
from auscult.data.own.facts import Facts
from auscult.errors import AuscultError, listed


@dataclass(frozen=True)
class Recording:
    path: Path
    name: str
    """What its clips are called after: unique within its machine and unit."""
    facts: Facts
    sound: Measured


def hold_out(recordings: list[Recording], holdout: float) -> list[Recording]:
    """Label some normal recordings `test_normal`: of each unit those with the lowest hashes, so no name decides.

    Copies of a recording go the same way.
    """
    units: dict[tuple[str, str], list[Recording]] = {}
    for one in recordings:
        units.setdefault((one.facts.machine, one.facts.unit), []).append(one)
    held: set[tuple[str, str, int]] = set()
    problems = []
    for (machine, unit), of_unit in sorted(units.items()):
        normal = sorted({one.sound.content for one in of_unit if one.facts.label == "normal"})
        if not normal:
            problems.append(f"{machine} unit {unit}: not one normal recording, so nothing to train on")
        elif holdout and all(one.facts.label != "test_normal" for one in of_unit):
            if len(normal) == 1:
                problems.append(f"{machine} unit {unit}: one normal recording cannot be both trained on and held out")
            count = min(max(1, round(holdout * len(normal))), len(normal) - 1)
            held |= {(machine, unit, content) for content in normal[:count]}
    if problems:
        fix = "add normal recordings (or cut a long one in two), or set `source.holdout` to 0"
        raise AuscultError(f"too few recordings:{listed(problems)}", fix=fix)
    out = []
    for one in recordings:
        chosen = one.facts.label == "normal" and (one.facts.machine, one.facts.unit, one.sound.content) in held
        out.append(replace(one, facts=replace(one.facts, label="test_normal")) if chosen else one)
    if all(one.facts.label == "normal" for one in out):
        fix = "add some to anomaly/ or test_normal/, or set `source.holdout`"
        raise AuscultError("there is nothing to test with: every recording is normal and trained on", fix=fix)
    return out
