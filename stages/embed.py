"""Embed every clip with one arm's model: data/<profile>/embeddings/<arm>/<seed>/, its cost beside the model."""

import sys

from auscult.errors import run
from auscult.settings.project import Project
from auscult.training.embed import embed_arm


def main() -> None:
    project, name, seed = Project.open(), sys.argv[1], int(sys.argv[2])
    arm, paths = project.params.arm(name), project.paths
    features = {partition: paths.features(partition) for partition in ("train", "test")}
    train_from = paths.embeddings(arm.weights, seed) if arm.weights != name else None
    embed_arm(
        paths.model(arm.weights, seed), features, paths.embeddings(name, seed), paths.embed_cost(name, seed),
        project.section("embed").batch_size, project.section("train"), arm.condition, train_from,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
