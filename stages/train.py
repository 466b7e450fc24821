"""Train one arm on the training clips: models/<profile>/<arm>/ and <arm>.cost.json."""

import sys

from auscult.arms import train_arm
from auscult.errors import run
from auscult.paths import resume_folder
from auscult.project import Project


def main() -> None:
    project, arm = Project.open(), sys.argv[1]
    paths = project.paths
    train_arm(
        project.arm(arm), project.profile, project.section("train"),
        paths.features("train"), paths.model(arm), paths.cost(arm), resume_folder(),
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
