"""The challenge's files of arms, scores and decisions: data/<profile>/submission/<arm>/. Sees no label."""

import sys

from auscult.errors import run
from auscult.files import atomic_folder
from auscult.scoring.submission import write_submission
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    paths, settings, score = project.paths, project.section("submission"), project.section("score")
    for arm in sys.argv[1:]:
        out = paths.submission(arm)
        if settings.set not in project.profile.sets:
            with atomic_folder(out) as part:
                (part / "nothing.txt").write_text(f"the profile {project.profile.name} has no {settings.set} set\n")
            continue
        seed = project.seeds[0]
        absent = write_submission(
            paths.embeddings(arm, seed),
            project.scores_of(arm),
            paths.clips,
            out,
            project.profile.rules,
            seed,
            settings,
            score,
        )
        if absent:
            print(f"{arm} has no scores of {', '.join(absent)}: the submission is not complete", file=sys.stderr)


if __name__ == "__main__":
    run(main)
