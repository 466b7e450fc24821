"""Score one arm's cached embeddings with the back-ends of the sweep, without labels: data/<profile>/sweep/<arm>.parquet."""

import sys

import pandas as pd

from auscult.errors import run
from auscult.files import atomic_file
from auscult.scoring.sweep import sweep_table
from auscult.settings.project import Project


def main() -> None:
    project, arm = Project.open(), sys.argv[1]
    sweep, score, domains = project.section("backends"), project.section("score"), project.profile.rules.domains
    tables = [
        sweep_table(project.paths.embeddings(arm, s), sweep, score, domains).assign(seed=s) for s in project.seeds
    ]
    with atomic_file(project.paths.sweep(arm)) as part:
        pd.concat(tables, ignore_index=True).to_parquet(part, index=False)


if __name__ == "__main__":
    run(main)
