"""`auscult listen`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.commands import Command
from auscult.commands.alarming import alarm_options, alarm_setup, followed_alarms, say

if TYPE_CHECKING:
    from auscult.detector.folder import Bundle
    from auscult.detector.sources import Source


def listen(parser: ArgumentParser) -> Command:
    """score a microphone or a stream while it is heard

    Listens to a microphone (--device) or to SOURCE, an RTSP or HTTP address, a pipe or a file, and appends one line per window
    to the output: when, where in the sound, score, p-value, decision. Windows overlap by half, as those of `auscult score`.

    A source that ends, stalls or loses samples is connected to again, with a line that says so; no window joins what was heard
    before with what comes after. Ctrl-C or SIGTERM ends it; so does the end of a file.

    Exit status: 0 when it was ended by a signal or by the end of a file, also if windows were anomalous; 2 if something went
    wrong; 130 after a second signal.

    Example: auscult listen pump.bundle rtsp://camera.plant/sound --out pump.csv --alarm 3/5
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="rtsp://..., http://..., a pipe or a file")
    parser.add_argument("--device", metavar="NAME", help="a microphone instead: its name, number, or `default`")
    parser.add_argument("--out", type=Path, default=Path("heard.csv"), help=".csv or .jsonl (default: heard.csv)")
    parser.add_argument(
        "--patience", metavar="S", type=float, default=30.0,
        help="seconds without a sample after which the source counts as gone (default: 30)",
    )  # fmt: skip
    alarm_options(parser, "windows")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.errors import AuscultError

    if (arguments.source is None) == (arguments.device is None):
        raise AuscultError("one thing to listen to is wanted", fix="give SOURCE, or --device")
    if not arguments.patience > 0:
        raise AuscultError("--patience must be above 0", fix="use seconds, such as 30")
    rule, receivers = alarm_setup(arguments)
    from auscult.commands.watch import stop_on_signals
    from auscult.detector import folder as bundles
    from auscult.detector.follow import Followed
    from auscult.detector.listen import COLUMNS, Listener
    from auscult.detector.output import Output

    bundle = bundles.load(arguments.bundle)
    source = _source(arguments, bundle)
    output = Output(arguments.out, "auscult listen", COLUMNS, bundle.name, bundle.digest, bundle.threshold)
    followed = Followed(bundle, say, lambda threshold: setattr(output, "threshold", threshold))
    listener = Listener(bundle, source, output, arguments.patience, say, followed.look)
    stop = stop_on_signals()
    try:
        print(f"listening to {source.name}", file=sys.stderr, flush=True)
        with followed_alarms(output, rule, receivers) as listener.written:
            counts = listener.listen(stop)
    finally:
        output.close()
    print(f"{counts.scored} windows, {counts.anomalous} of them anomalous: {arguments.out}", file=sys.stderr)
    return 0


def _source(arguments: Namespace, bundle: Bundle) -> Source:
    from auscult.detector.sources import Microphone, Stream

    if arguments.device is not None:
        return Microphone(arguments.device, bundle.channel)
    return Stream(arguments.source)
