"""`auscult update`."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.commands import Command
from auscult.detector.words import with_reasons
from auscult.errors import AuscultError

if TYPE_CHECKING:
    from auscult.detector.update import Updated


def update(parser: ArgumentParser) -> Command:
    """take new normal recordings into a bundle

    NEW are recordings of normal sound, or folders of them: all of some days, and not a choice among them. They are compared
    with from now on, and the threshold is computed anew, for the same rate of false alarms. No method is trained anew: `auscult
    fit` does that. What is known already is left out; if more of NEW is anomalous than chance allows, nothing is done without
    --force.

    With --false-alarms they are recordings that were called anomalous although the machine was in order. They are compared
    with, too, but no threshold is taken from them: chosen because they stand out, they would raise it too far.

    Example: auscult update pump.bundle may/ -o pump-may.bundle
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("new", metavar="NEW", type=Path, nargs="+", help="normal recordings, or folders of them")
    parser.add_argument("--false-alarms", action="store_true", help="NEW was called anomalous, and is normal")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--out", metavar="BUNDLE", type=Path, help="folder to write")
    where.add_argument(
        "--in-place", action="store_true", help="take the place of BUNDLE, which is kept beside it as BUNDLE.<digest>"
    )
    parser.add_argument("--force", action="store_true", help="the new ones are normal, however anomalous they seem")
    parser.add_argument("--json", action="store_true", help="for programs")
    return _run


def _run(arguments: Namespace) -> int:
    for path in (arguments.bundle, *arguments.new):
        if not path.exists():
            raise AuscultError("there is no such file or folder", str(path), "check the path")
    from auscult.detector.manifest import read_manifest
    from auscult.detector.stream import recordings

    read_manifest(arguments.bundle)
    recordings(arguments.new)  # before torch is imported: they may not be there
    from auscult.detector.update import update as update_bundle

    done = update_bundle(arguments.bundle, arguments.new, arguments.out, arguments.false_alarms, arguments.force)
    if arguments.json:
        facts = {"bundle": str(done.bundle.folder), "digest": done.bundle.digest, "kept": done.kept and str(done.kept)}
        share = None if math.isnan(done.still_above) else done.still_above
        entry = {**done.bundle.facts["updates"][-1], "still_above": share}
        print(json.dumps({**facts, **entry, "left_out": done.left_out, "notes": done.notes}, indent=1))
    else:
        print(_summary(done))
    return 0


def _summary(done: Updated) -> str:
    entry, training = done.bundle.facts["updates"][-1], done.bundle.facts["training"]
    kind = "false alarms" if entry["false_alarms"] else "new recordings"
    lines = [
        f"{done.bundle.folder}: {entry['recordings']} {kind} -> {entry['windows']} windows; "
        f"now {training['recordings']} recordings ({training['seconds'] / 60:.1f} min)",
        f"threshold {entry['threshold_before']:.6g} -> {entry['threshold_after']:.6g}, for {entry['rate']:.3g} of normal windows",
    ]
    share = (
        f"of the new windows, {entry['above']} were above the old threshold ({entry['above'] / entry['windows']:.0%})"
    )
    if not entry["false_alarms"]:
        share += f"; above the new one are {done.still_above:.0%}, each compared with other recordings alone"
    lines.append(share)
    if done.kept:
        lines.append(f"the bundle as it was: {done.kept}")
    if done.left_out:
        lines.append(f"left out: {len(done.left_out)} recording(s){with_reasons(done.left_out)}")
    return "\n".join(lines + [f"note: {note}" for note in done.notes])
