"""`auscult run`."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from pathlib import Path

from auscult.commands import Command
from auscult.errors import AuscultError


def run(parser: ArgumentParser) -> Command:
    """run studies: take them into DVC's graph, then `dvc repro`, `dvc exp run`, or a cluster

    Studies are left out of DVC's graph until one is asked for, for DVC reads all of it several times in a command. This adds
    the study, and those whose arms it shows, to .dvcignore and runs its stages by `dvc repro`; with -S, --name, --temp or
    --queue as an experiment. From then on every DVC command knows the study, until its line in .dvcignore is deleted. The same
    goes for `extras`: the page of results, the challenge's files (`extras:submission`), every back-end on the project's arms.

    With --scheduler each arm and seed is a task of a Dask cluster: `dvc repro --pull` and `dvc push --run-cache` in a clone of
    this project that the worker makes. What they train comes back through DVC's remote, which has to be configured; the tables
    are then made here, by `dvc repro --pull`, which trains nothing. What is in the remote already is fetched and not trained
    again, so the same command goes on after any end. docs/several-gpus-and-machines.md tells more.

    Exit status: 0 if all is made, 2 if a stage failed (the others are kept) or something else went wrong.

    Example: auscult run os_scl_baselines --temp --name table2 -S data.profile=dcase2020
    """
    parser.add_argument(
        "studies", metavar="STUDY", nargs="*",
        help="a folder of studies/, or extras or extras:STAGE; default: the project's own arms",
    )  # fmt: skip
    parser.add_argument(
        "--backends", action="store_true", help="every back-end on every arm, after the studies' own tables"
    )
    parser.add_argument("--no-run", action="store_true", help="take the studies into the graph, and run nothing")
    exp = parser.add_argument_group("as an experiment of DVC")
    exp.add_argument(
        "-S", "--set-param", metavar="KEY=VALUE", action="append", default=[], help="another value of params.yaml"
    )
    exp.add_argument("-n", "--name", default="", help="of the experiment")
    exp.add_argument("--temp", action="store_true", help="in a copy of the project: the workspace stays as it is")
    exp.add_argument("--queue", action="store_true", help="later, by `dvc queue start`")
    cluster = parser.add_argument_group("on a cluster")
    cluster.add_argument(
        "--scheduler", metavar="ADDRESS", default="",
        help="of a Dask scheduler, such as tcp://host:8786; or local, local:2: workers on this machine",
    )  # fmt: skip
    cluster.add_argument(
        "--git", metavar="URL", default="", help="where workers clone from; default: origin, or this folder"
    )
    cluster.add_argument(
        "--workspaces", metavar="FOLDER", default="",
        help="of each worker, for its clones: kept, so that an interrupted training continues; default: a temporary one",
    )  # fmt: skip
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.pipeline.graph import as_before, into_graph, is_extra, needed
    from auscult.pipeline.writer import outdated
    from auscult.settings.params import load_params

    if not Path("dvc.yaml").is_file():
        raise AuscultError("this is no project", str(Path.cwd()), "go to the folder that holds dvc.yaml")
    experiment = _experiment(arguments)
    if arguments.scheduler and (experiment or arguments.backends or any(map(is_extra, arguments.studies))):
        what = "a cluster trains what params.yaml says, and makes the studies' own tables"
        fix = "commit other values, and leave out extras, -S, --name, --temp, --queue and --backends"
        raise AuscultError(what, "--scheduler", fix)
    params = load_params()
    below = dict.fromkeys(study for name in arguments.studies for study in needed(params, name))
    if others := list(outdated(params, below)):
        what = f"the parameters ask for other stages than {', '.join(others[:5])} have"
        raise AuscultError(what, fix="python -m auscult.pipeline writes them, then commit them")
    elsewhere = (arguments.temp or arguments.queue) and not arguments.no_run
    with as_before() if elsewhere else nullcontext():
        files, new = into_graph(params, arguments.studies, arguments.backends)
        if not elsewhere:
            for file in new:
                print(f"now in DVC's graph: {file}", flush=True)
        if arguments.no_run:
            return 0
        if arguments.scheduler:
            return _on_cluster(arguments)
        return _by_dvc([*(["exp", "run", *experiment] if experiment else ["repro"]), *files])


def _experiment(arguments: Namespace) -> list[str]:
    """The options of `dvc exp run`; none = plain `dvc repro`."""
    options = [word for change in arguments.set_param for word in ("-S", change)]
    options += ["-n", arguments.name] if arguments.name else []
    options += ["--temp"] if arguments.temp else []
    return options + (["--queue"] if arguments.queue else [])


def _by_dvc(words: list[str]) -> int:
    """Run a DVC command of this environment in its place, so that it answers Ctrl-C itself."""
    import subprocess

    from auscult.packages import require

    require("dvc", "auscult run")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    done = subprocess.run([sys.executable, "-m", "dvc", *words], env=environment)
    return 2 if done.returncode else 0


def _on_cluster(arguments: Namespace) -> int:
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
