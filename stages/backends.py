"""Evaluate every arm under every back-end of the sweep: backends/metrics/<profile>/. Sees the labels of test clips."""

from auscult.errors import run
from auscult.project import Project
from auscult.reporting.backends import write_backends
from auscult.reporting.results import ArmFiles


def main() -> None:
    project = Project.open()
    params, paths = project.params, project.paths
    sweep, evaluate = project.section("backends"), project.section("evaluate")
    arms = {
        name: ArmFiles(paths.sweep(name), {seed: paths.model(arm.weights, seed) for seed in project.seeds})
        for name, arm in params.arms.items()
    }
    for ensemble in sweep.ensembles.values():
        for name in ensemble.arms:
            params.arm(name)  # refuses one that there is not
    write_backends(project.profile, evaluate, sweep, arms, paths.labels, paths.backends)


if __name__ == "__main__":
    run(main)
