"""The challenge's files of one arm, scores and decisions: submissions/<profile>/<arm>/. Sees no label."""

import sys

from auscult.errors import run
from auscult.files import atomic_folder
from auscult.scoring.submission import write_submission
from auscult.settings.project import Project


def main() -> None:
    project, arm = Project.open(), sys.argv[1]
    paths, settings, seed = project.paths, project.section("submission"), project.seeds[0]
    if settings.set not in project.profile.sets:
        with atomic_folder(paths.submission(arm)) as part:
            (part / "nothing.txt").write_text(f"the profile {project.profile.name} has no {settings.set} set\n")
        return
    absent = write_submission(
        paths.embeddings(arm, seed),
        paths.scores(arm),
        paths.clips,
        paths.submission(arm),
        project.profile.rules,
        seed,
        settings,
        project.section("score"),
    )
    if absent:
        print(f"{arm} has no scores of {', '.join(absent)}: the submission is not complete", file=sys.stderr)


if __name__ == "__main__":
    run(main)
