"""The challenge's files of arms, scores and decisions: data/<profile>/submission/<arm>/. Sees no label."""

import sys

import pandas as pd

from auscult.errors import run
from auscult.files import atomic_folder
from auscult.scoring.submission import write_submission
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    paths, settings, score = project.paths, project.section("submission"), project.section("score")
    for arm in sys.argv[1:]:
        out = paths.submission(arm)
        nothing = ""
        if settings.set not in project.profile.sets:
            nothing = f"the profile {project.profile.name} has no {settings.set} set"
        elif pd.read_parquet(project.scores_of(arm), columns=["seed"]).empty:
            nothing = f"no network of {arm} was trained: the tables say why"
        if nothing:
            with atomic_folder(out) as part:
                (part / "nothing.txt").write_text(f"{nothing}\n")
            continue
        seed = project.seeds[0]
        absent = write_submission(
            paths.embeddings(arm, seed), project.scores_of(arm), paths.clips, out, project.profile.rules, seed, settings, score,
        )  # fmt: skip
        if absent:
            print(f"{arm} has no scores of {', '.join(absent)}: the submission is not complete", file=sys.stderr)


if __name__ == "__main__":
    run(main)
