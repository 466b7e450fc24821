"""Which units of a machine type pass for which, by a study's arms: data/<profile>/confusion/<study>/."""

import sys

import pandas as pd

from auscult.errors import run
from auscult.results.confusion import write_confusions
from auscult.scoring.confusion import confusion_of
from auscult.settings.project import Project


def main() -> None:
    project, study = Project.open(), sys.argv[1]
    paths, k = project.paths, project.section("score").k
    labels = pd.read_parquet(paths.labels)
    tables = {
        arm: confusion_of(paths.embeddings(arm, project.seeds[0]), labels, k)
        for arm in project.params.studies[study].confusion
    }
    write_confusions(tables, paths.confusion(study))


if __name__ == "__main__":
    run(main)
