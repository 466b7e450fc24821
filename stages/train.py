"""Train one arm with one seed on the training clips: models/<profile>/<arm>/<seed>/ and <seed>.cost.json."""

import sys

from auscult.arms import train_arm
from auscult.errors import run
from auscult.paths import resume_folder
from auscult.project import Project


def main() -> None:
    project, arm, seed = Project.open(), sys.argv[1], int(sys.argv[2])
    paths = project.paths
    train_arm(
        project.arm(arm), project.profile, project.section("train"), seed,
        paths.features("train"), paths.model(arm, seed), paths.train_cost(arm, seed), resume_folder(),
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
