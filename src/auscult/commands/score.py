"""`auscult score`."""

from __future__ import annotations

import csv
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from auscult.commands import Command, print_table

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle
    from auscult.detector.stream import FileScore
    from auscult.evaluation.metrics import Floats

COLUMNS = ("file", "seconds", "score", "p_value", "anomalous", "start", "end", "windows", "above", "warning")


def score(parser: ArgumentParser) -> Command:
    """judge recordings by a bundle

    One row per recording: its length, the score and p-value of its most anomalous window, the decision, where that window
    lies (seconds), how many windows there are and how many score above the threshold. A recording is anomalous if one of its
    windows is; see docs/decisions.md before judging hours of sound by that.

    Exit status: 0 if all are normal, 1 if one is anomalous, 2 if one could not be read or something else went wrong.

    Example: auscult score pump.bundle today/ --format csv
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="recordings, or folders of them")
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default="table", help="default: table")
    parser.add_argument("--json", action="store_true", help="one JSON list, unreadable files with `error` and `fix`")
    parser.add_argument("--curve", metavar="CSV", type=Path, help="also write the score of every window to this file")
    parser.add_argument("--exit-zero", action="store_true", help="exit 0 also if a recording is anomalous")
    return _run


def _run(arguments: Namespace) -> int:
    from tqdm import tqdm

    from auscult.detector import bundle as bundles
    from auscult.detector.stream import recordings, score_and_curve
    from auscult.errors import AuscultError

    bundle = bundles.load(arguments.bundle)
    paths = recordings(arguments.files)
    unreadable = anomalous = 0
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=len(paths), unit="file", desc="score", mininterval=0.5, disable=not sys.stderr.isatty())
        )
        curve = _curve_writer(arguments.curve, bundle, stack)  # first: it may not be possible
        write = _writer("json" if arguments.json else arguments.format, stack)
        heard = 0.0

        def progress(seconds: float) -> None:
            nonlocal heard
            heard += seconds
            bar.set_postfix_str(f"{heard / 60:.1f} min")

        for path in paths:
            try:
                found, starts, scores = score_and_curve(bundle, path, progress)
            except (AuscultError, OSError) as error:
                unreadable += 1
                _complain(bar, path, error)
                write(path, None, error)
            else:
                anomalous += found.anomalous
                if found.warning:
                    bar.write(f"warning: {path}: {found.warning}", file=sys.stderr)
                write(path, found, None)
                curve(path, starts, scores)
            bar.update()
    if unreadable:
        print(f"error: {unreadable} of {len(paths)} file(s) could not be scored", file=sys.stderr)
        return 2
    return 1 if anomalous and not arguments.exit_zero else 0


def _complain(bar: Any, path: Path, error: Exception) -> None:
    what, fix = getattr(error, "what", str(error)), getattr(error, "fix", "")
    bar.write(f"error: {path}: {what}{f'; {fix}' if fix else ''}", file=sys.stderr)


def _writer(kind: str, stack: ExitStack) -> Callable[[Path, FileScore | None, Exception | None], None]:
    """`write(path, score, error)` for each recording; a table and a JSON list appear when `stack` closes."""
    kept: list[dict[str, Any]] = []
    if kind == "csv":
        rows = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        rows.writeheader()

    def write(path: Path, found: FileScore | None, error: Exception | None) -> None:
        why = {"error": str(getattr(error, "what", error)), "fix": getattr(error, "fix", "")}
        values: dict[str, Any] = {"file": str(path), **why} if found is None else asdict(found)
        if kind == "jsonl":
            print(json.dumps(values), flush=True)
        elif kind == "csv" and found is not None:
            rows.writerow({**values, "anomalous": int(found.anomalous)})
            sys.stdout.flush()
        else:
            kept.append(values)

    def finish() -> None:
        if kind == "json":
            print(json.dumps(kept, indent=1))
        elif kind == "table":
            print_table(
                [("file", "seconds", "score", "p-value", "decision", "most anomalous", "above"), *map(_row, kept)]
            )

    stack.callback(finish)
    return write


def _row(values: dict[str, Any]) -> tuple[str, ...]:
    if "error" in values:
        return (values["file"], "", "", "", "unreadable", "", "")
    return (
        values["file"], f"{values['seconds']:.2f}", f"{values['score']:.6g}", f"{values['p_value']:.3g}",
        "ANOMALOUS" if values["anomalous"] else "normal", f"{_time(values['start'])} - {_time(values['end'])}",
        f"{values['above']} of {values['windows']}",
    )  # fmt: skip


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return (
        f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:04.1f}"
        if minutes >= 60
        else f"{int(minutes)}:{rest:04.1f}"
    )


def _curve_writer(path: Path | None, bundle: Bundle, stack: ExitStack) -> Callable[[Path, Floats, Floats], None]:
    if path is None:
        return lambda file, starts, scores: None
    from auscult.files import atomic_file

    out: TextIO = open(stack.enter_context(atomic_file(path)), "w", encoding="utf-8", newline="")
    stack.callback(out.close)
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("file", "start", "score", "p_value", "anomalous"))

    def write(file: Path, starts: Floats, scores: Floats) -> None:
        for start, value, p in zip(starts, scores, bundle.p_values(scores), strict=True):
            rows.writerow((file, f"{start:.4f}", repr(float(value)), repr(float(p)), int(value > bundle.threshold)))

    return write
