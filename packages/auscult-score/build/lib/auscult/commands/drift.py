"""`auscult drift`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.commands import Command, print_table

if TYPE_CHECKING:
    from auscult.detector.drift import Drift


def drift(parser: ArgumentParser) -> Command:
    """see whether normal sound has moved since a bundle was fitted

    Reads what `auscult watch` wrote and shows for each day how many recordings are above the threshold, and the median p-value,
    0.5 where nothing has changed. A day stands out if chance explains that for one journal in a hundred at most, however many
    days it has. Recordings of more than one window each are compared with the first ones of the journal instead.

    Exit status: 0 if nothing has moved, 1 if something has, 2 if that could not be told.

    Example: auscult drift pump.bundle pump.csv
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("journal", metavar="JOURNAL", type=Path, help="output of `auscult watch`, .csv or .jsonl")
    parser.add_argument("--per", default="day", help="day (default), week, or a number of recordings")
    parser.add_argument("--json", action="store_true", help="for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector.drift import drift as find_drift

    found = find_drift(arguments.bundle, arguments.journal, arguments.per)
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        rows = [("when", "recordings", "above", "95 % interval", "median p-value", "louder", "softer", "")]
        for each in found.periods:
            shares = f"{each.share:.0%}", f"{each.low:.0%} to {each.high:.0%}"
            levels = str(each.louder or ""), str(each.softer or "")
            mark = "moved" if each.moved else ""
            rows.append((each.name, str(each.recordings), *shares, f"{each.p_value:.2g}", *levels, mark))
        print_table(rows)
        print("\n".join(_words(found, arguments.bundle)))
    return 1 if found.since else 0


def _words(found: Drift, bundle: Path) -> list[str]:
    limit = f"the threshold of {found.limit:.6g}"
    if found.compared_with:
        limit = f"what {found.expected:.0%} of the first {found.compared_with} recordings exceed ({found.limit:.6g})"
    lines = [f"above {limit}: {found.expected:.0%} expected"]
    moved = [each for each in found.periods if each.moved]
    if found.since:
        since = found.periods[[each.name for each in found.periods].index(found.since) :]
        count, above = sum(each.recordings for each in since), sum(each.above for each in since)
        lines.append(
            f"normal sound has moved since {found.since}: {above} of {count} recordings are above ({above / count:.0%}), "
            f"{found.expected:.0%} expected"
        )
        if 2 * sum(each.louder + each.softer for each in since) > count:
            lines.append("most of them have another level than any training recording: was the microphone moved?")
        lines.append(
            f"if the machine was in order, update the bundle: auscult update {bundle} NEW; if not, look at the machine"
        )
    elif moved:
        lines.append(f"other than expected on: {', '.join(each.name for each in moved)}; not since")
    else:
        lines.append("no sign that normal sound has moved")
    if found.unscored:
        lines.append(f"not counted: {found.unscored} recording(s) without a score")
    if found.other_lines:
        lines.append(f"not counted: {found.other_lines} line(s) by another bundle, or by this one before an update")
    return lines
