"""`auscult fit`."""

from __future__ import annotations

import json
import sys
import textwrap
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.commands import Command
from auscult.detector.words import with_reasons
from auscult.errors import AuscultError, listed
from auscult.methods import METHODS, in_a_line

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle


def fit(parser: ArgumentParser) -> Command:
    """learn what normal sounds like from a folder of recordings, and keep it as a bundle

    The folder holds recordings of normal sound and nothing else; of any length, rate and format. Sub-folders are modes of
    operation (idle/, load/), of two recordings or more each. The bundle is a folder, too: `auscult score` judges other
    recordings by it. What was left out, and why a threshold may be too low, stands at the end (`training.notes` with --json).
    `auscult compare` shows which method to take.

    Example: auscult fit recordings/normal -o pump.bundle
    """
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="recordings of normal sound")
    parser.add_argument("-o", "--out", metavar="BUNDLE", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--method", default="spectral_knn", help="what listens (default: spectral_knn, which trains nothing)"
    )
    parser.add_argument(
        "--backend", metavar="NAME", default="",
        help="what scores: native, knn_cosine, knn_euclidean, or any of docs/backends.md, one of your own too; default: the "
        "method's own score, or else nearest neighbours",
    )  # fmt: skip
    hearing_arguments(parser)
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action=_Set, default=[],
        help="a setting of the method; `--method NAME --set help` lists them",
    )  # fmt: skip
    parser.add_argument("--html", metavar="PAGE", type=Path, help="also write a page on what was learnt: page.html")
    parser.add_argument("--force", action="store_true", help="replace the bundle that is there")
    parser.add_argument("--json", action="store_true", help="bundle.yaml as JSON, for programs")
    parser.add_argument_group("methods", "\n".join(paragraph(name, in_a_line(name), 15) for name in METHODS))
    return _run


def hearing_arguments(parser: ArgumentParser) -> None:
    """What `fit` and `compare` have in common."""
    parser.add_argument(
        "--labels", metavar="CSV", type=Path, help="a table that says which recordings in FOLDER are normal"
    )
    parser.add_argument("--k", type=int, default=1, help="neighbours (default: 1)")
    parser.add_argument(
        "--seconds", type=float, default=0.0,
        help="of a window; default: as the shortest recording, stubs apart, 10 at most",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float,
        help="of false alarms per window; default: 0.1, or the smallest that few recordings support",
    )  # fmt: skip
    parser.add_argument("--sample-rate", type=int, default=0, help="Hz; default: 16000, or what most recordings have")
    parser.add_argument("--channel", type=_channel, default=0, help="0 = the first (default), 1, ...; or `mean`")
    parser.add_argument(
        "--one-mode", action="store_true", help="sub-folders are days or the like, not modes of operation"
    )
    parser.add_argument("--seed", type=int, default=0, help="of training (default: 0)")
    parser.add_argument("--long-on-cpu", action="store_true", help="train without a GPU what takes days that way")


HEARING = ("k", "seconds", "rate", "sample_rate", "channel", "one_mode", "seed", "long_on_cpu", "labels")
"""The names of these, as `FitSettings` has them."""


def paragraph(name: str, text: str, indent: int) -> str:
    """A name, and beside it a text of several lines of 79 letters at most, after two blanks."""
    return f"{name:{indent}}" + f"\n{' ' * indent}".join(textwrap.wrap(text, 77 - indent))


def _channel(text: str) -> int | str:
    if text == "mean" or text.isdecimal():
        return text if text == "mean" else int(text)
    raise ArgumentTypeError("a number from 0, or `mean`")


class _Set(Action):
    """Collects (key, value); `help` prints the keys of the method that stands before it, and ends."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: object = None) -> None:
        if values == "help":
            try:
                print(_keys(namespace.method))
            except AuscultError as error:
                parser.error(str(error))
            parser.exit()
        key, equals, value = values.partition("=")
        if not key or not equals:
            parser.error(f"argument --set: `{values}` is no KEY=VALUE, such as epochs=30")
        namespace.set = [*namespace.set, (key, value)]


def _keys(method: str) -> str:
    from auscult.detector.places import require_method
    from auscult.methods.about import keys

    require_method(method)
    lines = [f"{method}: {in_a_line(method)}", "", "--set takes (another method's: --method NAME --set help)"]
    for key in keys(method):
        words = f"{', '.join(key.words)}. " if key.words else ""
        lines.append(f"  {key.name}={key.default}")
        lines += textwrap.wrap(words + key.meaning, 79, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _run(arguments: Namespace) -> int:
    import yaml

    from auscult.detector.places import require_folder, require_new_bundle

    require_folder(arguments.folder, "recordings", "give the folder that holds recordings of normal sound")
    require_new_bundle(arguments.out, arguments.force)
    from auscult.detector import bundle

    settings: dict[str, Any] = {}
    for key, value in arguments.set:
        *parents, last = key.split(".")
        inside = settings
        for parent in parents:
            inside = inside.setdefault(parent, {})
        try:
            inside[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise AuscultError(
                f"`{value}` is no value", f"--set {key}", "quote it, such as --set 'pooling=[max]'"
            ) from None
    asked = bundle.FitSettings(
        arguments.method, settings, arguments.backend, **{name: getattr(arguments, name) for name in HEARING}
    )
    if arguments.html is None:
        made = bundle.fit(arguments.folder, arguments.out, asked, arguments.force)
    else:
        from auscult.detector.page.fitted import FitPage

        page = FitPage(arguments.html)
        made = bundle.fit(arguments.folder, arguments.out, asked, arguments.force, page.listen)
        print(f"page: {page.write(made)}", file=sys.stderr)
    print(json.dumps(made.facts, indent=1) if arguments.json else _summary(made))
    return 0


def _summary(made: Bundle) -> str:
    from auscult.detector.thresholds import needed

    facts = made.facts["training"]
    seconds = made.window / made.sample_rate
    counts = facts["units"]
    modes = f" in {len(counts)} modes ({', '.join(counts)})" if len(counts) > 1 else ""
    rate, (above, counted) = made.rule.rate, facts["above_by_others"]
    lines = [
        f"{made.folder}: {facts['recordings']} recordings ({facts['seconds'] / 60:.1f} min) -> "
        f"{facts['windows']} windows of {seconds:g} s at {made.sample_rate} Hz{modes}",
        f"method {made.method}, score {made.backend}; anomalous above {made.threshold:.6g}, "
        f"which {rate:.3g} of normal windows exceed ({made.rule.by})",
        f"smallest p-value it can give: {1 / (len(made.normal) + 1):.2g}; a rate of {rate:.3g} needs {needed(rate)} recordings",
    ]
    if counted:
        which = "on recordings it had not heard" if made.backend != "native" else "by thresholds of other recordings"
        lines.append(f"{which}: {above} of {counted} windows above ({above / counted:.0%}; expected {rate:.0%})")
    unused = facts["seconds"] - facts["windows"] * seconds
    if unused > 0.05 * facts["seconds"]:
        lines.append(f"not used: {unused:.0f} s at the ends of recordings, less than a window each (--seconds)")
    if facts["other_files"]:
        lines.append(f"passed over: {facts['other_files']} file(s) that are no recordings")
    if facts["left_out"]:
        lines.append(f"left out: {len(facts['left_out'])} recording(s){with_reasons(facts['left_out'])}")
    if facts["same_sound"]:
        names = [f"{name}: as {other}" for name, other in facts["same_sound"].items()]
        lines.append(f"left out: {len(names)} recording(s) with the same sound as another one{listed(names)}")
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join(lines)
