"""Train one arm with one seed on the training clips: models/<profile>/<arm>/<seed>/ and <seed>.cost.json.

With `train.processes` above 1 it starts itself in so many processes; `torchrun --nproc-per-node 2 stages/train.py <arm> <seed>`
does the same by hand.
"""

import sys

from auscult.errors import run
from auscult.settings.paths import resume_folder
from auscult.settings.project import Project
from auscult.training import launch
from auscult.training.arm import train_arm


def main() -> None:
    project, arm, seed = Project.open(), sys.argv[1], int(sys.argv[2])
    paths, settings, train = project.paths, project.arm(arm), project.section("train")
    processes = launch.wanted(settings, train)
    if processes > 1:
        return launch.start(processes)
    with launch.joined(settings, train) as at_work:
        if at_work:
            train_arm(
                settings, project.profile, train, seed,
                paths.features("train"), paths.model(arm, seed), paths.train_cost(arm, seed), resume_folder(),
            )  # fmt: skip


if __name__ == "__main__":
    run(main)
