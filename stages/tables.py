"""Evaluate all arms of the project or of a study: metrics/<profile>/ and data/<profile>/results/. Sees test labels first."""

import sys

from auscult.errors import run
from auscult.results.arms import arm_files
from auscult.results.results import Folders, write_results
from auscult.settings.project import Project


def main() -> None:
    project, study = Project.open(), sys.argv[1] if len(sys.argv) > 1 else ""
    params, paths, evaluate = project.params, project.paths, project.section("evaluate")
    settings = params.studies[study] if study else None
    if settings:
        evaluate = evaluate.model_copy(update={"reference": settings.reference})
    arms = arm_files(project, params.rows(study))
    out = Folders(paths.metrics(study), paths.results(study))
    write_results(project.profile, evaluate, arms, paths.labels, out, params.tables(study), settings)


if __name__ == "__main__":
    run(main)
