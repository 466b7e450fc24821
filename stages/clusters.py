"""Clusters of training clips without attributes, for the arms of one seed that take them for classes.

Reads the index of the training clips and embeddings of training clips: data/<profile>/clusters/<arm>/<seed>.parquet.
"""

import sys

import pandas as pd

from auscult.errors import run
from auscult.files import atomic_file
from auscult.settings.project import Project
from auscult.training.clusters import cluster_table


def main() -> None:
    project, seed = Project.open(), int(sys.argv[1])
    paths, index = project.paths, pd.read_parquet(project.paths.features("train") / "index.parquet")
    for name in sys.argv[2:]:
        labels = vars(project.arm(name))["labels"]
        table = cluster_table(index, paths.embeddings(labels.embeddings, seed), labels)
        paths.clusters(name, seed).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(paths.clusters(name, seed)) as part:
            table.to_parquet(part, index=False)


if __name__ == "__main__":
    run(main)
