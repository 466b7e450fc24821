"""Score the cached embeddings of arms with the back-ends of the sweep, without labels: data/<profile>/sweep/<arm>.parquet."""

import sys

import pandas as pd

from auscult.errors import run
from auscult.files import atomic_file
from auscult.scoring.sweep import sweep_table
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    sweep, score, domains = project.section("backends"), project.section("score"), project.profile.rules.domains
    for arm in sys.argv[1:]:
        folders = {seed: project.paths.embeddings(arm, seed) for seed in project.seeds}
        tables = [sweep_table(folder, sweep, score, domains).assign(seed=seed) for seed, folder in folders.items()]
        with atomic_file(project.paths.sweep(arm)) as part:
            pd.concat(tables, ignore_index=True).to_parquet(part, index=False)


if __name__ == "__main__":
    run(main)
