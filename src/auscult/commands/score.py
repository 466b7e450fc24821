"""`auscult score`."""

from __future__ import annotations

import csv
import json
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from auscult.commands import Command, print_table
from auscult.commands.archive import archive_options, asks_for_archive, score_archive
from auscult.commands.terminal import paint, wrapped
from auscult.detector.words import clock, counted, reason, rounded, tally

if TYPE_CHECKING:
    from auscult.detector.score import Bundle, FileScore, Windows

COLUMNS = (
    "file", "seconds", "score", "p_value", "anomalous", "start", "end", "windows", "above", "warning", "verdict",
    "expected", "higher",
)  # fmt: skip
HEADING = ("file", "seconds", "score", "p-value", "decision", "most anomalous", "above")
DROP = (1, 3, 5, 2, 6)
"""Columns that a narrow terminal does without, the first to go first."""
COLOURS = {
    "normal": "green", "ANOMALOUS": "red", "check recording": "yellow", "unusable": "yellow", "unreadable": "yellow",
}  # fmt: skip


def score(parser: ArgumentParser) -> Command:
    """judge recordings by a bundle

    One row per recording: its length, the score and p-value of its most anomalous window, the decision, where that window
    lies (seconds), how many windows there are and how many score above the threshold. A recording of many windows is
    anomalous if more of them are above than normal sound of that length would have (docs/decisions.md).

    `check recording` stands where the recording decides and not the machine: its level alone explains the score, or a part
    is digital silence; `unusable` where nothing is done, `unreadable` where a file is no whole recording.

    BUNDLE may be a file of `auscult export` as well: then onnxruntime, NumPy and soundfile are all it takes.

    With --scheduler, a whole archive by many workers (docs/several-gpus-and-machines.md): FILE may be an address such as
    s3://bucket/2026/, or a pattern; rows go to parts below --out, and the same command goes on after any end.

    Exit status: 0 if all are normal, 1 if one is anomalous, 2 if one was not judged or something else went wrong.

    Example: auscult score pump.bundle today/ --format csv
    """
    parser.add_argument(
        "bundle", metavar="BUNDLE", type=Path, help="made by `auscult fit`, or by `auscult export`: FILE.onnx"
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="recordings, or folders of them")
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default=None, help="default: table")
    parser.add_argument("--json", action="store_true", help="one JSON list, unreadable files with `error` and `fix`")
    parser.add_argument("--curve", metavar="CSV", type=Path, help="also write the score of every window to this file")
    parser.add_argument("--html", metavar="PAGE", type=Path, help="also write a page to show: page.html")
    parser.add_argument(
        "--normal", metavar="FOLDER", type=Path,
        help="recordings the bundle was fitted to, to show the nearest on the page",
    )  # fmt: skip
    parser.add_argument("--exit-zero", action="store_true", help="exit 0 also if a recording is anomalous")
    archive_options(parser)
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector.places import require_bundle, require_page, require_some
    from auscult.detector.stream import recordings
    from auscult.errors import AuscultError

    exported = arguments.bundle.suffix == ".onnx" and not arguments.bundle.is_dir()
    if not exported:
        require_bundle(arguments.bundle)
    elif arguments.html is not None or arguments.scheduler is not None:
        what = "--html and --scheduler take the bundle itself, not an exported file"
        raise AuscultError(what, str(arguments.bundle), "give the folder that it was exported from")
    if asks_for_archive(arguments):
        return score_archive(arguments)
    files = [Path(file) for file in arguments.files]
    require_some(files)
    paths = recordings(files)
    if arguments.html is not None:
        require_page(arguments.html)
    elif arguments.normal is not None:
        raise AuscultError("--normal without --html", fix="say --html page.html as well")
    from auscult.detector.score import score_and_curve

    bundle = _loaded(arguments.bundle, exported)
    unread = unsure = anomalous = 0
    with ExitStack() as stack:
        curve = _curve_writer(arguments.curve, bundle, stack)  # first: it may not be possible
        show = _page(arguments.html, arguments.normal, bundle, stack)
        kind = "json" if arguments.json else arguments.format or "table"
        write = _writer(kind, stack, bundle)
        # Last, so that it is gone before a table is printed; rows that come one by one would be written into it.
        hidden = not sys.stderr.isatty() or (kind in ("csv", "jsonl") and sys.stdout.isatty())
        bar = stack.enter_context(_bar(len(paths), hidden))
        done = 0.0

        def progress(seconds: float) -> None:
            nonlocal done
            done += seconds
            bar.set_postfix_str(f"{done / 60:.1f} min")

        for path in paths:
            try:
                found, windows = score_and_curve(bundle, path, progress)
            except (AuscultError, OSError) as error:
                unread += 1
                _complain(bar, path, error)
                write(path, None, error)
                show(path, None, None, error)
            else:
                anomalous += found.anomalous
                unsure += found.verdict == "check recording"
                if found.warning:
                    bar.write(f"warning: {found.file}: {found.warning}", file=sys.stderr)
                write(path, found, None)
                curve(path, windows)
                show(path, found, windows, None)
            bar.update()
    if unread:
        print(f"error: {unread} of {len(paths)} file(s) could not be scored", file=sys.stderr)
    if unsure:
        print(f"error: {unsure} of {len(paths)} file(s) could not be judged: check the recording", file=sys.stderr)
    if unread or unsure:
        return 2
    return 1 if anomalous and not arguments.exit_zero else 0


def _loaded(path: Path, exported: bool) -> Bundle:
    if exported:
        from auscult.detector.exported import load as load_exported

        return load_exported(path)
    from auscult.detector.folder import load

    return load(path)


def _bar(total: int, hidden: bool) -> Any:
    """A progress bar; a context manager."""
    if hidden or find_spec("tqdm") is None:
        return _NoBar()
    from tqdm import tqdm

    return tqdm(total=total, unit="file", desc="score", mininterval=0.5, leave=False)


class _NoBar(nullcontext[Any]):
    """Where nobody would see one."""

    def __enter__(self) -> _NoBar:
        return self

    def update(self) -> None:
        pass

    def set_postfix_str(self, text: str) -> None:
        pass

    def write(self, text: str, file: TextIO) -> None:
        print(text, file=file)


def _complain(bar: Any, path: Path, error: Exception) -> None:
    from auscult.data.audio import printable

    problem = "; ".join(filter(None, (reason(error), getattr(error, "fix", ""))))
    bar.write(f"error: {printable(path)}: {problem}", file=sys.stderr)


def _writer(kind: str, stack: ExitStack, bundle: Bundle) -> Callable[[Path, FileScore | None, Exception | None], None]:
    """`write(path, score, error)` for each recording; a table and a JSON list appear when `stack` closes."""
    from auscult.data.audio import printable
    from auscult.detector.score import verdict_without_score

    kept: list[dict[str, Any]] = []
    if kind == "csv":
        rows = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        rows.writeheader()

    def write(path: Path, found: FileScore | None, error: Exception | None) -> None:
        if found is not None:
            values = asdict(found)
        else:
            assert error is not None
            values = {"file": printable(path), "error": reason(error), "fix": getattr(error, "fix", "")}
            values["verdict"] = verdict_without_score(error)
        if kind == "jsonl":
            print(json.dumps(values), flush=True)
        elif kind == "csv":
            cells = {**values, "anomalous": int(found.anomalous)} if found else {**values, "warning": values["error"]}
            rows.writerow({name: cells.get(name, "") for name in COLUMNS})
            sys.stdout.flush()
        else:
            kept.append(values)

    def finish() -> None:
        if kind == "json":
            print(json.dumps(kept, indent=1))
        elif kind == "table":
            print_table([HEADING, *map(_row, kept)], DROP, COLOURS)
            print(_summary(kept))
            for note in _notes(kept, bundle):
                print(wrapped(f"note: {note}"))

    stack.callback(finish)
    return write


def _row(values: dict[str, Any]) -> tuple[str, ...]:
    if "error" in values:
        return (values["file"], "", "", "", values["verdict"], "", "")
    return (
        values["file"], f"{values['seconds']:.2f}", f"{values['score']:.6g}", f"{values['p_value']:.3g}",
        values["verdict"], f"{clock(values['start'])} - {clock(values['end'])}",
        _above(values),
    )  # fmt: skip


def _above(values: dict[str, Any]) -> str:
    words = f"{values['above']} of {values['windows']}"
    if values["windows"] > 1:
        words += f" ({rounded(values['expected'])} expected)"
        if values["higher"] and values["verdict"] != "ANOMALOUS":
            words += f", {values['higher']} above all normal"
    return words


def _summary(kept: list[dict[str, Any]]) -> str:
    """`12 recordings: 10 normal, 1 ANOMALOUS, 1 to check`."""
    parts = [paint(words, COLOURS[verdict]) for verdict, words in tally(values["verdict"] for values in kept)]
    return f"{counted(len(kept), 'recording')}: {', '.join(parts)}"


def _notes(kept: list[dict[str, Any]], bundle: Bundle) -> list[str]:
    """What is to be known of these verdicts."""
    notes = []
    if any(values.get("windows", 1) > 1 for values in kept) and not bundle.known.alike:
        notes.append(
            "how alike windows of one recording are is not known from the recordings this was fitted to, so that of long "
            "ones about half of the windows must be above; fit to recordings of several windows"
        )
    if bundle.rule.by == "gamma":
        notes.append(
            f"the threshold for a rate of {bundle.rule.rate:g} is that of a gamma distribution, which {len(bundle.normal)} "
            "normal windows do not prove"
        )
    return notes


def _page(out: Path | None, normal: Path | None, bundle: Bundle, stack: ExitStack) -> Callable[..., None]:
    """What takes each recording for the page, which is written when `stack` closes without an error."""
    if out is None:
        return lambda *recording: None
    from auscult.detector.folder import Bundle as Folder
    from auscult.detector.page.scored import ScorePage

    assert isinstance(bundle, Folder)  # an exported file was refused
    page = ScorePage(out, bundle, normal)
    stack.push(lambda kind, error, trace: None if kind else print(f"page: {page.write()}", file=sys.stderr))
    return page.add


def _curve_writer(path: Path | None, bundle: Bundle, stack: ExitStack) -> Callable[[Path, Windows], None]:
    if path is None:
        return lambda file, windows: None
    from auscult.data.audio import printable
    from auscult.files import atomic_file

    out: TextIO = open(stack.enter_context(atomic_file(path)), "w", encoding="utf-8", newline="")
    stack.callback(out.close)
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("file", "start", "score", "p_value", "anomalous"))

    def write(file: Path, windows: Windows) -> None:
        p_values = bundle.p_values(windows.score)
        for start, value, p, above in zip(windows.start, windows.score, p_values, windows.above, strict=True):
            if math.isnan(value):  # not judged
                rows.writerow((printable(file), f"{start:.4f}", "", "", ""))
            else:
                rows.writerow((printable(file), f"{start:.4f}", repr(float(value)), repr(float(p)), int(above)))

    return write
