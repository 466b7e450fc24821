"""`auscult compare`."""

from __future__ import annotations

import json
import math
import shlex
import tempfile
import textwrap
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.commands import Command
from auscult.commands.fit import HEARING, hearing_arguments, paragraph
from auscult.commands.terminal import aligned
from auscult.detector.words import with_reasons
from auscult.errors import AuscultError

if TYPE_CHECKING:
    from auscult.detector.compare import Comparison, Verdict

_ALARMS = (
    "of 100 windows of normal sound that the method had not heard; ! = more than asked for, beyond chance: its threshold does "
    "not hold, and it is not taken"
)
_CHANGES = (
    "put into windows of your own sound at levels over 30 dB, from hardly there to plain, and noticed in so many of 100. They "
    "are no faults: they show what a method is deaf to"
)
_APART = (
    "in so many of 100 pairs the fault scores higher than normal sound that was not heard; 50 is chance, brackets hold the 95 % "
    "interval"
)
_FOUND = "by the bundle that `auscult fit` would make of all these recordings"


def compare(parser: ArgumentParser) -> Command:
    """show which method to fit to a folder of recordings of normal sound

    Tries the methods that learn in seconds on recordings that they did not hear: how many false alarms come, which made-up
    changes of the sound they notice and, with a few known faults, how many of these they find. Says which one to take, or that
    it is a tie, with the command to type. Nothing is written.

    A table for --labels: file,label with `normal` or `anomaly`; also unit, attributes, machine (docs/your-own-machine.md).

    Example: auscult compare recordings/normal --faults recordings/anomaly
    """
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="recordings of normal sound (with --labels: of both)"
    )
    parser.add_argument("--faults", metavar="FOLDER", type=Path, help="recordings of known faults, a handful")
    parser.add_argument(
        "--methods", metavar="NAME", nargs="+", default=[], help="try these, too; minutes to hours each"
    )
    hearing_arguments(parser)
    parser.add_argument("--json", action="store_true", help="everything as JSON, for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector.places import require_method
    from auscult.detector.recordings import files_below

    for name in arguments.methods:
        require_method(name)
    if arguments.faults is not None and arguments.labels is not None:
        what = "faults are in a folder of their own, or named by a table, not both"
        raise AuscultError(what, fix="leave out --faults or --labels")
    for folder in (arguments.folder, arguments.faults):
        if folder is not None:
            files_below(folder, "the recordings")  # before anything heavy is imported

    from auscult.detector.compare import compare
    from auscult.detector.settings import FitSettings

    asked = FitSettings(**{name: getattr(arguments, name) for name in HEARING})
    with tempfile.TemporaryDirectory(prefix="auscult-compare-") as work:
        found = compare(arguments.folder, Path(work), asked, arguments.methods, arguments.faults)
    verdict = found.verdict()
    command = _command(arguments, found, verdict)
    print(
        json.dumps(_plain(_facts(found, verdict, command)), indent=1)
        if arguments.json
        else _text(found, verdict, command)
    )
    return 0


def _command(arguments: Namespace, found: Comparison, verdict: Verdict) -> str:
    """The call of `auscult fit` that makes a bundle of what is to be taken."""
    from auscult.detector.settings import FitSettings
    from auscult.detector.trials import written

    trial, default = found.trials[verdict.take], FitSettings()
    folder = arguments.folder.resolve()
    name = folder.parent.name if folder.name.lower() in ("normal", "train") and folder.parent.name else folder.name
    words = ["auscult", "fit", str(arguments.folder), "-o", f"{name}.bundle"]
    words += ["--method", trial.method] if trial.method != default.method else []
    for key, value in trial.values.items():
        words += ["--set", f"{key}={written(value)}"]
    for key in HEARING:
        value = getattr(arguments, key)
        if value != getattr(default, key):
            words += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


# ------------------------------------------------------------------------------------------------------------- for people
def _text(found: Comparison, verdict: Verdict, command: str) -> str:
    normals, rows = found.normals, verdict.rows
    seconds = normals.samples / normals.sample_rate
    said = (
        f"{verdict.recordings} recordings of normal sound, {len(found.fold)} windows of {seconds:g} s; each method was tried on "
        f"recordings left out, in {int(found.fold.max()) + 1} parts. Asked for: {100 * found.rate:g} false alarms in 100 windows."
    )
    lines = [*textwrap.wrap(said, 79), ""]
    names = [f"{row.name} (default)" if number == 0 else row.name for number, row in enumerate(rows)]
    alarms = [f"{100 * row.alarms:.0f}{' ' if row.holds else '!'}" for row in rows]
    both, marks = (["method", *names], ["alarms ", *alarms]), [("alarms", _ALARMS)]
    if found.faults is not None:
        told = [
            f"{_hundred(row.area)} [{_hundred(row.area_limits[0])}, {_hundred(row.area_limits[1])}]" for row in rows
        ]
        hits = [f"{sum(row.found.values())} of {len(row.found)}" for row in rows]
        lines += [*_columns(*both, ["told apart", *told], ["found", *hits]), ""]
        marks += [("told apart", _APART), ("found", _FOUND)]
    changes = [[kind, *(_hundred(row.noticed[kind]) for row in rows)] for kind in rows[0].noticed]
    hours = [f"{trial.hour:.0f} s" for trial in found.trials]
    lines += [*_columns(*both, *changes, ["an hour", *hours]), ""]
    marks += [("clicks ...", _CHANGES), ("an hour", "of sound takes so long to score on this machine")]
    lines += [*(paragraph(name, text, 12) for name, text in marks), ""]
    for name, why in found.failed.items():
        lines += textwrap.wrap(f"left out: {name}: {why}", 79)
    for windows, kind in ((normals.windows, "recording"), (found.faults, "fault")):
        if windows is not None and windows.left_out:
            lines.append(f"left out: {len(windows.left_out)} {kind}(s){with_reasons(windows.left_out, 5)}")
    lines += [f"note: {note}" for note in normals.windows.notes]
    for said in _advice(found, verdict):
        lines += textwrap.wrap(said, 79)
    return "\n".join([*lines, "", f"    {command}"])


def _advice(found: Comparison, verdict: Verdict) -> list[str]:
    """Which to take and why, in words; and what nobody can know from this."""
    rows, take = verdict.rows, verdict.take
    row, first = rows[take], rows[0]
    text = []
    if found.faults is None:
        if take == 0:
            text.append(
                f"Take {row.name}, the default. By normal sound alone this is a tie: no other method notices clearly more of one "
                f"kind of change without noticing fewer of another."
            )
        else:
            text.append(
                f"Take {row.name}: it notices clearly more of a kind of made-up change than the default, and not fewer of any "
                f"other (within 5 in 100)."
            )
        text.append(
            "Whether this machine's faults are like the made-up changes, nobody knows. A few recordings of known faults tell "
            "more: --faults FOLDER."
        )
    else:
        others = max((each.area for each in rows[1:] if each.holds), default=0.0)
        if take:
            text.append(
                f"Take {row.name}: faults are told from normal sound in {_hundred(row.area)} of 100 pairs, by the default in "
                f"{_hundred(first.area)}. It is the first in the table within one standard error of the best."
            )
        elif others > first.area:
            text.append(
                f"Take {row.name}, the default. The best of the others is no further ahead than chance explains (one standard "
                f"error): a tie."
            )
        else:
            text.append(
                f"Take {row.name}, the default. No other method that keeps to the false alarms tells faults better from normal "
                f"sound."
            )
        missed = [name for name, hit in row.found.items() if not hit]
        if missed:
            text.append(f"It does not find: {', '.join(missed[:10])}.")
        text.append(_worth(verdict, len(row.found)))
    if not row.holds:
        text.append(
            "No method keeps to the false alarms that were asked for, and this one does not either: record more normal sound, "
            "of more days."
        )
    shares = found.by_folder(take)
    if shares:
        worst = max(shares, key=lambda name: shares[name])
        text.append(
            f"Its false alarms by sub-folder: {_hundred(min(shares.values()))} to {_hundred(shares[worst])} in 100 windows, "
            f"most in {worst or 'the folder itself'}."
        )
    return text


def _worth(verdict: Verdict, faults: int) -> str:
    from auscult.detector.picking import wilson

    if verdict.worth is None:
        return "With one fault nobody can tell what the choice is worth on another one."
    low, high = wilson(verdict.worth.found, faults)
    return (
        f"Numbers that a method was chosen by flatter it. Chosen anew without each fault and each part of the recordings, what "
        f"is taken finds the fault left out in {_hundred(verdict.worth.found)} of 100 cases [{_hundred(low)}, {_hundred(high)}], "
        f"at {_hundred(verdict.worth.alarms)} false alarms in 100 windows."
    )


def _hundred(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f}"


def _columns(*columns: list[str]) -> list[str]:
    return aligned(list(zip(*columns, strict=True)), {}, right=True)


# ----------------------------------------------------------------------------------------------------------- for programs
def _facts(found: Comparison, verdict: Verdict, command: str) -> dict[str, Any]:
    from dataclasses import asdict

    candidates = []
    for trial, row in zip(found.trials, verdict.rows, strict=True):
        facts = {"method": trial.method, "values": dict(trial.values), "backend": trial.backend, **asdict(row)}
        facts |= {"fit_seconds": round(trial.seconds, 2), "seconds_per_hour": round(trial.hour, 1)}
        candidates.append(facts)
    return {
        "rate": found.rate, "recordings": verdict.recordings, "windows": len(found.fold),
        "parts": int(found.fold.max()) + 1, "candidates": candidates, "failed": found.failed,
        "left_out": found.normals.windows.left_out, "faults_left_out": found.faults.left_out if found.faults else {},
        "take": verdict.take, "why": _advice(found, verdict), "worth": asdict(verdict.worth) if verdict.worth else None,
        "command": command,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Without NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inside) for inside in value]
    return None if isinstance(value, float) and math.isnan(value) else value
