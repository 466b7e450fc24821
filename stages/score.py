"""Score the test clips of arms with every back-end, without their labels: data/<profile>/scores/<arm>.parquet of each."""

import sys

import pandas as pd

from auscult.errors import run
from auscult.files import atomic_file
from auscult.scoring.table import score_table
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    score, domains = project.section("score"), project.profile.rules.domains
    for arm in sys.argv[1:]:
        tables = [score_table(project.paths.embeddings(arm, s), score, domains).assign(seed=s) for s in project.seeds]
        with atomic_file(project.paths.scores(arm)) as part:
            pd.concat(tables, ignore_index=True).to_parquet(part, index=False)


if __name__ == "__main__":
    run(main)
