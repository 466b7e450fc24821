"""`auscult watch`."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from auscult.commands import Command, apart
from auscult.commands.alarming import alarm_options, alarm_setup, followed_alarms, say

if TYPE_CHECKING:
    from auscult.detector.score import FileScore
    from auscult.detector.watch import Stop


def watch(parser: ArgumentParser) -> Command:
    """score recordings as they arrive in a folder

    Looks into FOLDER and all folders below it every --interval seconds and appends one line per new recording to the output:
    when, which file (name, size, modification time), score, p-value, decision, where the most anomalous window lies, or why
    there is no score. A file still being written waits until it is whole: at once where its header states its length and no
    program has it open for writing, else after --patience seconds of rest. The output is the record of what is done: after
    a kill or a restart the same command goes on, every recording is scored once, one that changes is scored again.

    The output follows one bundle: a threshold that is set meanwhile is taken over, a bundle that scores otherwise is refused.

    Ctrl-C or SIGTERM ends it after the recording at hand; a second one ends it at once. Two watchers of one output refuse.

    Exit status: 0 when it was ended by a signal, or with --once if all went well, also if recordings were anomalous; 2 with
    --once if one could not be scored, and whenever something else went wrong; 130 after a second signal.

    Example: auscult watch pump.bundle incoming/ --out pump.csv --once
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where recordings arrive")
    parser.add_argument("--out", type=Path, default=Path("scores.csv"), help=".csv or .jsonl (default: scores.csv)")
    parser.add_argument("--interval", metavar="S", type=float, default=1.0, help="seconds between looks (default: 1)")
    parser.add_argument(
        "--patience", metavar="S", type=float, default=30.0,
        help="seconds of rest after which a file counts as whole, or as unreadable, without proof (default: 30)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="score what is there and at rest, then end (for cron)")
    alarm_options(parser, "recordings")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector.places import require_folder
    from auscult.errors import AuscultError

    if not arguments.interval > 0 or not arguments.patience >= 0:
        raise AuscultError("--interval must be above 0, and --patience not below", fix="use seconds, such as 1 and 30")
    rule, receivers = alarm_setup(arguments)
    require_folder(arguments.folder, "recordings", "give the folder where recordings arrive")
    from auscult.data.audio import READ
    from auscult.detector import folder as bundles
    from auscult.detector.follow import Followed
    from auscult.detector.journal import Journal
    from auscult.detector.score import score_file
    from auscult.detector.watch import Watcher
    from auscult.detector.watch import watch as watch_folder

    bundle = bundles.load(arguments.bundle)
    journal = Journal(arguments.out, bundle.name, bundle.digest, bundle.threshold)
    watcher = Watcher(
        lambda path: score_file(bundle, path), arguments.folder, journal, READ, arguments.patience,
        lambda path: apart(_score, arguments.bundle, path), say,
        refresh=Followed(bundle, say, lambda threshold: setattr(journal, "threshold", threshold)).look,
    )  # fmt: skip
    stop = stop_on_signals()
    try:
        print(f"watching {arguments.folder}; {len(journal)} recording(s) done before", file=sys.stderr, flush=True)
        with followed_alarms(journal, rule, receivers) as watcher.written:
            counts = watch_folder(watcher, arguments.interval, arguments.once, stop)
    finally:
        journal.close()
    print(
        f"{counts.scored} scored, {counts.anomalous} of them anomalous, {counts.failed} not to be scored: {arguments.out}",
        file=sys.stderr,
    )
    return 2 if arguments.once and counts.failed else 0


def _score(folder: Path, path: Path) -> FileScore:
    """In a process of its own."""
    from auscult.detector.folder import load
    from auscult.detector.score import score_file

    return score_file(load(folder), path)


def stop_on_signals() -> Stop:
    """What SIGINT or SIGTERM sets; the second signal interrupts."""
    from auscult.detector.watch import Stop

    stop = Stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop
