"""Score the test clips of the arms of the project, or of a study, with every back-end and without their labels."""

import sys

from auscult.errors import run
from auscult.scoring.made_from import scores_settings
from auscult.scoring.table import score_table, write_scores
from auscult.settings.project import Project


def main() -> None:
    project, study = Project.open(), sys.argv[1] if len(sys.argv) > 1 else ""
    score, domains = project.section("score"), project.profile.rules.domains
    arms = {arm.name: project.embeddings(arm.name) for arm in project.params.own(study)}
    made_with = scores_settings(project, study)
    write_scores(project.scores(study), arms, lambda folder: score_table(folder, score, domains), made_with)


if __name__ == "__main__":
    run(main)
