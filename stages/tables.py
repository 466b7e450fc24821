"""Evaluate all arms and write metrics/<profile>/: summary, tables, JSON, plots. The first stage that sees test labels."""

from auscult.errors import run
from auscult.project import Project
from auscult.reporting.results import write_results


def main() -> None:
    project = Project.open()
    paths, arms = project.paths, project.params["arms"]
    scores = {arm: paths.scores(arm) for arm in arms}
    histories = {arm: paths.model(arm) / "history.csv" for arm in arms}
    write_results(project.profile, project.section("evaluate"), scores, paths.labels, histories, paths.metrics)


if __name__ == "__main__":
    run(main)
