"""`auscult score --scheduler`: options, progress and what is said at the end."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from auscult.commands.terminal import wrapped
from auscult.detector.words import counted, tally

if TYPE_CHECKING:
    from auscult.cluster.fleet import Outcome

_ONE_BY_ONE = ("format", "json", "curve", "html", "normal")
"""Options of `auscult score` that an archive has no use for."""


def archive_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("an archive, by many workers")
    group.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="of a Dask scheduler, such as tcp://host:8786; or local, local:4: workers on this machine",
    )  # fmt: skip
    group.add_argument("--out", metavar="PLACE", help="folder or address for the parts, which all workers reach")
    group.add_argument("--part", metavar="N", type=int, help="recordings of a part (default: 1000)")


def asks_for_archive(arguments: Namespace) -> bool:
    """
    Raises:
        AuscultError: options that do not go together.
    """
    from auscult.errors import AuscultError

    if arguments.scheduler is None:
        for name in ("out", "part"):
            if getattr(arguments, name) is not None:
                raise AuscultError(f"--{name} without --scheduler", fix="say --scheduler local as well")
        return False
    if arguments.out is None:
        raise AuscultError("--scheduler without --out", fix="say where the parts go: --out scores/")
    if arguments.part is not None and arguments.part < 1:
        raise AuscultError("--part must be at least 1", fix="leave it out, or say --part 1000")
    for name in _ONE_BY_ONE:
        if getattr(arguments, name):
            what = f"--{name} is not for an archive, whose rows are in the parts"
            raise AuscultError(what, fix=f"leave it out; or score some recordings without --scheduler, with --{name}")
    return True


def score_archive(arguments: Namespace) -> int:
    """Exit status as of `auscult score`, for all that is in the output."""
    from tqdm import tqdm

    from auscult.cluster import fleet

    with tqdm(unit="file", desc="score", mininterval=0.5, disable=None, leave=False) as bar:
        told = False

        def progress(outcome: Outcome, workers: int) -> None:
            nonlocal told
            if not workers and not told:
                bar.write("the scheduler has no workers yet: waiting for them (Ctrl-C ends)", file=sys.stderr)
                told = True
            bar.n = outcome.scored
            failures = len(outcome.failed) + outcome.more_failed
            bar.set_postfix_str(
                f"{counted(workers, 'worker')}, {outcome.verdicts['ANOMALOUS']:,} anomalous, {failures} failed"
            )

        try:
            outcome = fleet.score_archive(
                arguments.bundle,
                arguments.files,
                arguments.scheduler,
                arguments.out,
                arguments.part or fleet.PART,
                progress,
            )
        except KeyboardInterrupt:
            bar.write(f"{bar.n:,} scored; the same command goes on", file=sys.stderr)
            raise
    for note in outcome.notes:
        print(f"note: {note}", file=sys.stderr)
    for file, why in outcome.failed:
        print(f"error: {file}: {why}", file=sys.stderr)
    total = outcome.verdicts.total()
    words = ", ".join(words for _, words in tally(outcome.verdicts))
    print(wrapped(f"{counted(total, 'recording')}: {words or 'none'}"))
    print(f"{outcome.scored:,} scored now, {outcome.before:,} before: {arguments.out}")
    failures = len(outcome.failed) + outcome.more_failed
    if failures:
        print(
            f"error: {counted(failures, 'recording')} could not be scored; the same command tries again",
            file=sys.stderr,
        )
    if failures or total > outcome.verdicts["normal"] + outcome.verdicts["ANOMALOUS"]:
        return 2
    return 1 if outcome.verdicts["ANOMALOUS"] and not arguments.exit_zero else 0
