"""Evaluate the arms of a report under every back-end: data/<profile>/backends/<report>/. Sees the labels of test clips.

A report is "project", a study, or "all" arms.
"""

import sys

from auscult.errors import run
from auscult.results.arms import arm_files
from auscult.results.backends import write_backends
from auscult.settings.project import Project


def main() -> None:
    project, report = Project.open(), sys.argv[1]
    params, paths = project.params, project.paths
    sweep, evaluate = project.section("backends"), project.section("evaluate")
    rows = list(params.arms) if report == "all" else params.rows("" if report == "project" else report)
    arms = arm_files(project, rows, project.sweep)
    for ensemble in sweep.ensembles.values():
        for name in ensemble.arms:
            params.arm(name)  # refuses one that there is not
    write_backends(project.profile, evaluate, sweep, arms, paths.labels, paths.backends(report))


if __name__ == "__main__":
    run(main)
