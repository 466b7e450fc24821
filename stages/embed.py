"""Embed every clip with one arm's model: data/<profile>/embeddings/<arm>/."""

import sys

from auscult.embedding import embed_arm
from auscult.errors import run
from auscult.project import Project


def main() -> None:
    project, arm = Project.open(), sys.argv[1]
    paths = project.paths
    features = {partition: paths.features(partition) for partition in ("train", "test")}
    embed_arm(
        paths.model(arm), features, paths.embeddings(arm), project.section("embed").batch_size, project.section("train")
    )


if __name__ == "__main__":
    run(main)
