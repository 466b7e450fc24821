"""The command `auscult report`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.commands import Command

if TYPE_CHECKING:
    from auscult.settings.project import Project


def report(parser: ArgumentParser) -> Command:
    """one page of all results, with plots and sounds, that opens without a network

    Writes a folder whose index.html opens by a double click: tables, costs, curves, the worst clips, and where the numbers
    come from. Arms without scores are left out with the reason.

    Example: auscult report --out /tmp/report --arms ae tfst_os_scl
    """
    parser.add_argument("--profile", default="", help="whose results; default: the one of params.yaml")
    parser.add_argument("--out", type=Path, help="folder to write, replaced as a whole; default: data/<profile>/report")
    parser.add_argument(
        "--arms", metavar="ARM", nargs="+", default=[], help="only these; default: every arm with scores"
    )
    return _report


def project_of(profile: str) -> Project:
    """The project in this folder, by its own profile or another one."""
    from auscult.settings.params import load_profile
    from auscult.settings.paths import Paths
    from auscult.settings.project import Project

    project = Project.open()
    return Project(project.params, load_profile(profile), Paths(profile)) if profile else project


def _report(arguments: Namespace) -> int:
    project = project_of(arguments.profile)
    from auscult.results.page.build import write_report  # torch: after what may be wrong

    page = write_report(project, arguments.out or project.paths.report, arguments.arms)
    print(f"written: {page}")
    return 0
