"""Score one arm's test clips with every back-end, without their labels: data/<profile>/scores/<arm>.parquet."""

import sys

from auscult.errors import run
from auscult.files import atomic_file
from auscult.project import Project
from auscult.scoring.table import score_table


def main() -> None:
    project, arm = Project.open(), sys.argv[1]
    table = score_table(project.paths.embeddings(arm), project.section("score"), project.profile.rules.domains)
    with atomic_file(project.paths.scores(arm)) as part:
        table.to_parquet(part, index=False)


if __name__ == "__main__":
    run(main)
