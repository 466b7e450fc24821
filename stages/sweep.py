"""Score the cached embeddings of the arms of the project, or of a study, with the back-ends of the sweep, without labels."""

import sys

from auscult.errors import run
from auscult.scoring.choice import register
from auscult.scoring.made_from import scores_settings
from auscult.scoring.sweep import sweep_table
from auscult.scoring.table import write_scores
from auscult.settings.project import Project


def main() -> None:
    project, study = Project.open(), sys.argv[1] if len(sys.argv) > 1 else ""
    sweep, score, domains = project.section("backends"), project.section("score"), project.profile.rules.domains
    arms = {arm.name: project.embeddings(arm.name) for arm in project.params.own(study)}
    write_scores(
        project.sweep(study),
        arms,
        lambda folder: sweep_table(folder, sweep, score, domains),
        scores_settings(project, study, sweep=True),
        lambda out: register(out, arms, sweep, score, domains),
    )


if __name__ == "__main__":
    run(main)
