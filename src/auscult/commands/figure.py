"""`auscult figure`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from auscult.commands import Command


def figure(parser: ArgumentParser) -> Command:
    """a figure of results, as PDF, SVG or PNG, of chosen arms and back-ends

    auc: averages with their intervals. roc: curves, a panel for each machine type. training: losses per epoch. parameter: the
    number that a study swept. backends: every back-end on every arm (after `auscult run --backends`). A
    back-end of one's own is named as in params.yaml.

    Example: auscult figure auc -o auc.pdf auc.svg --arms ae tfst_os_scl --backends native knn_euclidean
    """
    parser.add_argument("name", metavar="FIGURE", help="auc, roc, training, parameter or backends")
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=Path, nargs="+", required=True, help="ends with .pdf, .svg or .png"
    )
    parser.add_argument(
        "--arms", metavar="ARM", nargs="+", default=[], help="in this order; default: those of the tables"
    )
    parser.add_argument(
        "--backends", metavar="NAME", nargs="+", default=[], help="in this order; default: those of the tables"
    )
    parser.add_argument("--study", default="", help="whose tables; default: the project's")
    parser.add_argument("--profile", default="", help="whose results; default: the one of params.yaml")
    parser.add_argument(
        "--metric", default="", help="auc, pauc, mauc, official, ... (default: auc; of parameter: what the study names)"
    )
    parser.add_argument("--machine", default="mean", help="a machine type, or mean or hmean over them (default: mean)")
    parser.add_argument("--set", dest="which", choices=("dev", "eval"), default="dev", help="of clips (default: dev)")
    return _figure


def _figure(arguments: Namespace) -> int:
    from auscult.commands.report import project_of
    from auscult.results.draw import Wanted, draw

    project = project_of(arguments.profile)
    wanted = Wanted(
        arguments.study, tuple(arguments.arms), tuple(arguments.backends), arguments.metric, arguments.machine,
        arguments.which,
    )  # fmt: skip
    draw(project, arguments.name, arguments.out, wanted)
    for path in arguments.out:
        print(f"written: {path}")
    return 0
