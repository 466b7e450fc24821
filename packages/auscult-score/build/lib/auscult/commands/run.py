"""`auscult run`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from auscult.commands import Command


def run(parser: ArgumentParser) -> Command:
    """train the arms of studies on a cluster, then make their tables

    Each arm and seed is a task of a Dask cluster: `dvc repro --pull` and `dvc push --run-cache` in a clone of this project that
    the worker makes. What they train comes back through DVC's remote, which has to be configured; the tables are then made
    here, by `dvc repro --pull`, which trains nothing. What is in the remote already is fetched and not trained again, so the
    same command goes on after any end. docs/several-gpus-and-machines.md tells more.

    Exit status: 0 if all is made, 2 if a stage failed (the others are kept) or something else went wrong.

    Example: auscult run band_stack --scheduler tcp://head:8786
    """
    parser.add_argument(
        "studies", metavar="STUDY", nargs="*", help="a folder of studies/; default: the project's own arms"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", required=True,
        help="of a Dask scheduler, such as tcp://host:8786; or local, local:2: workers on this machine",
    )  # fmt: skip
    parser.add_argument(
        "--git", metavar="URL", default="", help="where workers clone from; default: origin, or this folder"
    )
    parser.add_argument(
        "--workspaces", metavar="FOLDER", default="",
        help="of each worker, for its clones: kept, so that an interrupted training continues; default: a temporary one",
    )  # fmt: skip
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.cluster.train import train_arms

    failed = train_arms(
        arguments.studies,
        arguments.scheduler,
        arguments.git,
        arguments.workspaces,
        lambda line: print(line, flush=True),
    )
    if failed:
        print(f"error: {len(failed)} stage(s) failed: {', '.join(failed)}", file=sys.stderr)
        return 2
    return 0
