"""`auscult threshold`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.commands import Command, print_table
from auscult.detector.words import rounded

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle
    from auscult.detector.thresholds import Threshold

DAY = 86400


def threshold(parser: ArgumentParser) -> Command:
    """set how many false alarms a bundle may give

    The rate is that of normal windows called anomalous, and of normal recordings, however long they are. Shown is what each
    rate makes of a day: of recordings that are made (--recordings-per-day), or of listening without a break, a window every
    half window; in brackets, between which numbers it lies in nine of ten cases, given how few normal windows the threshold
    rests on. --per-day chooses the rate from the false alarms a day that are bearable.

    A rate needs 1 / rate - 1 normal windows, and is refused without them. --by gamma goes beyond that: it extrapolates by a
    gamma distribution, as the DCASE baselines do. Without --rate or --per-day, and with --dry-run, nothing is written.

    Example: auscult threshold pump.bundle --rate 0.05
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    wish = parser.add_mutually_exclusive_group()
    wish.add_argument("--rate", type=float, help="of false alarms, between 0 and 1")
    wish.add_argument(
        "--per-day", metavar="N", type=float, help="false alarms a day that are bearable, instead of --rate"
    )
    parser.add_argument(
        "--recordings-per-day", metavar="N", type=float, help="how many are judged; default: listening without a break"
    )
    parser.add_argument("--by", choices=("quantile", "gamma"), help="default: quantile; gamma extrapolates")
    parser.add_argument("--dry-run", action="store_true", help="show, and write nothing")
    parser.add_argument("--json", action="store_true", help="for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector import folder as bundles
    from auscult.detector.thresholds import choose
    from auscult.errors import AuscultError

    wished = arguments.rate is not None or arguments.per_day is not None
    if arguments.by and not wished:
        raise AuscultError("--by without --rate", fix="say --rate 0.05 as well")
    if any(number is not None and not number > 0 for number in (arguments.per_day, arguments.recordings_per_day)):
        raise AuscultError(
            "--per-day and --recordings-per-day are numbers above 0", fix="such as --recordings-per-day 24"
        )
    bundle = bundles.load(arguments.bundle)
    times = arguments.recordings_per_day or DAY * bundle.sample_rate / bundle.hop
    rules = {"in force": bundle.rule}
    if wished:
        rate = arguments.rate if arguments.rate is not None else _rate(arguments.per_day, times)
        try:
            rules["asked for"] = choose(bundle.normal, rate, arguments.by)
        except AuscultError as error:
            fix = (
                f"{error.fix}, or use --by gamma, which extrapolates"
                if not arguments.by and 0 < rate < 1
                else error.fix
            )
            raise AuscultError(error.what, str(arguments.bundle), fix) from None
    written = wished and not arguments.dry_run
    facts = {name: _facts(bundle, rule, times) for name, rule in rules.items()}
    if arguments.json:
        now = facts.get("asked for", facts["in force"])
        print(json.dumps({**now, "before": facts["in force"], "times_per_day": times, "written": written}, indent=1))
    else:
        _show(bundle, facts, times, arguments.recordings_per_day is not None)
    if written:
        bundles.set_threshold(arguments.bundle, rules["asked for"].rate, arguments.by)
    if wished and not arguments.json:
        print(f"written to {arguments.bundle}" if written else "nothing is written (--dry-run)")
    return 0


def _rate(per_day: float, times: float) -> float:
    from auscult.errors import AuscultError

    if per_day >= times:
        what = f"{per_day:g} false alarms a day are no fewer than the {times:g} verdicts of a day"
        raise AuscultError(
            what, fix="choose a smaller --per-day, or say how many recordings are judged: --recordings-per-day"
        )
    return per_day / times


def _facts(bundle: Bundle, rule: Threshold, times: float) -> dict[str, Any]:
    """What a threshold means, for programs; `low` and `high` are not known of a gamma distribution."""
    from auscult.detector.thresholds import rate_bounds

    bounds = [times * bound for bound in rate_bounds(rule.rate, bundle.known.effective)]
    return {
        "rate": rule.rate, "threshold": rule.value, "by": rule.by, "normal_windows": len(bundle.normal),
        "normal_above": int((bundle.normal > rule.value).sum()), "per_day": times * rule.rate,
        **(dict(zip(("low", "high"), bounds, strict=True)) if rule.by == "quantile" else {"low": None, "high": None}),
    }  # fmt: skip


def _show(bundle: Bundle, facts: dict[str, dict[str, Any]], times: float, recordings: bool) -> None:
    training, count = bundle.facts["training"], len(bundle.normal)
    print(
        f"{bundle.folder}: {training['recordings']} normal recordings, {count} windows of "
        f"{bundle.window / bundle.sample_rate:g} s, support rates from {1 / (count + 1):.2g} on"
    )
    day = f"{times:g} recordings" if recordings else f"{times:.0f} windows, listening without a break"
    print(f"a day: {day}")
    rows = [("", "rate", "threshold", "by", "normal above", "false alarms a day")]
    for name, of in facts.items():
        interval = "not known" if of["low"] is None else f"{rounded(of['low'])} to {rounded(of['high'])}"
        rows.append((
            name, f"{of['rate']:.3g}", f"{of['threshold']:.6g}", of["by"], f"{of['normal_above']} of {count}",
            f"{rounded(of['per_day'])} ({interval})",
        ))  # fmt: skip
    print_table(rows)
    for of in facts.values():
        if of["by"] == "gamma":
            beyond = of["rate"] * (count + 1) < 1
            reach = f": beyond {1 / (count + 1):.2g}, which {count} windows support, it extrapolates" if beyond else ""
            print(f"note: a rate of {of['rate']:.3g} by the gamma distribution rests on its shape{reach}")
