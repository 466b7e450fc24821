"""`auscult info`."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from auscult.commands import Command
from auscult.commands.terminal import tame
from auscult.detector.words import with_reasons
from auscult.errors import AuscultError


def info(parser: ArgumentParser) -> Command:
    """tell what a bundle is

    What it was fitted to, by what, which threshold it has and what that means, what was left out, and how it was updated. Its
    files are compared with their digests; --check also loads it and scores a window, which takes seconds.

    Exit status: 0 if it is as it was written, 2 if not, which is said at the end.

    Example: auscult info pump.bundle
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("--check", action="store_true", help="load it whole")
    parser.add_argument("--json", action="store_true", help="for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult import __version__
    from auscult.detector.manifest import check_files, read_manifest

    folder, problem = arguments.bundle, None
    manifest = read_manifest(folder)
    facts = manifest.model_dump()
    facts["digest"], facts["usable"] = manifest.digest, True
    facts["written"] = datetime.fromtimestamp((folder / "bundle.yaml").stat().st_mtime, UTC).isoformat(
        timespec="seconds"
    )
    try:
        check_files(folder, manifest)
        if arguments.check:
            from auscult.detector.folder import load

            load(folder)
    except AuscultError as error:
        problem, facts["usable"] = error, False
    if arguments.json:
        print(json.dumps(facts, indent=1, default=str))
    else:
        state = f"whole; made by auscult {facts['made_with'].get('auscult', '?')}, this is {__version__}"
        text = "\n".join([*_words(folder, facts), f"state       {'BROKEN, see below' if problem else state}"])
        print(tame(text))
    if problem:
        print(tame(f"error: {problem}"), file=sys.stderr)
    return 2 if problem else 0


def _words(folder: Path, facts: dict[str, Any]) -> list[str]:
    """What bundle.yaml says, a line each."""
    training, rule, signal = facts["training"], facts["threshold"], facts["signal"]
    rate, seconds = rule["rate"], facts["window"] / facts["sample_rate"]
    how = {
        "native": "the method's own score", "knn_cosine": "cosine distance to the nearest normal windows",
        "knn_euclidean": "distance to the nearest normal windows",
    }.get(facts["backend"], f"the back-end {facts['backend']} on the normal windows")  # fmt: skip
    day = rate * 86400 * facts["sample_rate"] / facts["hop"]
    k = f", k = {facts['k']}" if facts["backend"].startswith("knn_") or "k" in facts["knobs"] else ""
    modes = training["units"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["made_with"].items())
    levels = [f"levels      {signal['lowest']:.1f} to {signal['highest']:.1f} dBFS"]
    if signal["lowest"] <= -400:  # of a bundle from before they were kept
        levels = []
    lines = [
        f"bundle      {facts['name']} in {folder}",
        f"digest      {facts['digest']}",
        f"written     {facts['written']}, with {versions}",
        f"listens to  windows of {seconds:g} s at {facts['sample_rate']} Hz, channel {facts['channel']}",
        f"by          {facts['method']}: {how}{k}",
        f"fitted to   {training['recordings']} recordings ({training['seconds'] / 60:.1f} min), {training['windows']} windows"
        + (f", in {len(modes)} modes: {', '.join(modes)}" if len(modes) > 1 else ""),
        *levels,
        f"threshold   {rule['value']:.6g} ({rule['by']}): a window above it is anomalous",
        f"            {rate:.3g} of normal windows are, and so many normal recordings are called anomalous",
        f"            about {day:.0f} false alarms a day of listening without a break; see `auscult threshold`",
    ]
    for each in facts["updates"]:
        kind = "false alarms" if each["false_alarms"] else "recordings"
        lines.append(
            f"update      {each['date']}: {each['recordings']} {kind}; {each['above']} of {each['windows']} "
            f"windows were above; threshold {each['threshold_before']:.6g} -> {each['threshold_after']:.6g}"
            f"{' (--force)' if each['forced'] else ''}; before: {each['parent'][:8]}"
        )
    for title, key in (("left out", "left_out"), ("same sound", "same_sound")):
        if found := training[key]:
            lines.append(f"{title:12}{len(found)}{with_reasons(found, 10)}")
    return lines + [f"note        {note}" for note in training["notes"]]
