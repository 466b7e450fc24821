"""`auscult threshold`."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser, Namespace
from pathlib import Path

from auscult.commands import Command, print_table


def threshold(parser: ArgumentParser) -> Command:
    """set how many false alarms a bundle may give

    The rate is that of normal windows called anomalous. Shown are the quantile of the left-out scores of the training
    windows, and that of a gamma distribution fitted to them, as in the DCASE baselines. Written is the quantile where there
    are windows enough (1 / rate - 1), else the gamma distribution's; --by chooses. Without --rate nothing is written.

    Example: auscult threshold pump.bundle --rate 0.05
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("--rate", type=float, help="of false alarms per window, between 0 and 1")
    parser.add_argument("--by", choices=("quantile", "gamma"), help="which of the two is written")
    parser.add_argument("--json", action="store_true", help="for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector import bundle as bundles
    from auscult.detector.thresholds import gamma_quantile, quantile
    from auscult.errors import AuscultError

    if arguments.rate is None and arguments.by:
        raise AuscultError("--by without --rate", fix="say --rate 0.05 as well")
    bundle = bundles.load(arguments.bundle)
    before = bundle.rule
    now = before if arguments.rate is None else bundles.set_threshold(arguments.bundle, arguments.rate, arguments.by)
    found = {"quantile": quantile(bundle.normal, now.rate), "gamma": gamma_quantile(bundle.normal, now.rate)}
    shares = {name: float((bundle.normal > value).mean()) for name, value in found.items()}
    if arguments.json:
        values = {
            name: {"threshold": value if math.isfinite(value) else None, "share_above": shares[name]}
            for name, value in found.items()
        }
        facts = {"rate": now.rate, "threshold": now.value, "by": now.by, "before": before.value, **values}
        print(json.dumps(facts, indent=1))
        return 0
    rows = [("by", "threshold", f"of {len(bundle.normal)} normal windows above", "")]
    for name, value in found.items():
        shown, share = f"{value:.6g}", f"{shares[name]:.1%}"
        if not math.isfinite(value):
            shown, share = "too few windows" if name == "quantile" else "does not fit", ""
        rows.append((name, shown, share, "<- in force" if name == now.by else ""))
    print(
        f"false-alarm rate {now.rate:g} per window; threshold was {before.value:.6g} at {before.rate:g} ({before.by})"
    )
    print_table(rows)
    return 0
