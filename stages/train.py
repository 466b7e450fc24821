"""Train one arm with one seed on the training clips: models/<profile>/<arm>/<seed>/.

With `train.processes` above 1 it does so in so many processes; `torchrun --nproc-per-node 2 stages/train.py <arm> <seed>`
does the same by hand.
"""

import sys

from auscult.errors import AuscultError, run
from auscult.files import digest
from auscult.settings.paths import resume_folder
from auscult.settings.project import Project
from auscult.training import distributed, launch
from auscult.training.arm import train_arm
from auscult.training.classes import Known
from auscult.training.modelfolder import write_cost


def train(project: Project, arm: str, seed: int) -> None:
    paths = project.paths
    if not paths.inputs(arm).is_file():
        raise AuscultError(
            "what this arm depends on is not written down", str(paths.inputs(arm)), "run: dvc repro digests"
        )
    cost = train_arm(
        project.arm(arm), Known(project.profile.class_label, paths.clusters(arm, seed)), project.section("train"), seed,
        paths.features("train"), paths.model(arm, seed), resume_folder(), digest(paths.inputs(arm))[:16],
    )  # fmt: skip
    if distributed.rank() == 0:
        write_cost(paths.cost("train", arm, seed), cost)


def main() -> None:
    project, arm, seed = Project.open(), sys.argv[1], int(sys.argv[2])
    launch.run(train, (project, arm, seed), project.arm(arm), project.section("train"))


if __name__ == "__main__":
    run(main)
