"""Bring MLflow up to date with the project's or a study's metrics. Its out is never cached, so it runs at every change."""

import sys
from pathlib import Path

from auscult.errors import run
from auscult.settings.project import Project
from auscult.tracking.publish import publish


def main() -> None:
    project, study = Project.open(), sys.argv[1] if len(sys.argv) > 1 else ""
    publish(project, Path(".published") / study / f"{project.profile.name}.json", study)


if __name__ == "__main__":
    run(main)
