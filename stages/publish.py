"""Bring MLflow up to date with metrics/, one run per arm. Its out is never cached, so it runs whenever a result changed."""

from pathlib import Path

from auscult.errors import run
from auscult.project import Project
from auscult.tracking import publish


def main() -> None:
    project = Project.open()
    publish(project, Path(".published") / f"{project.profile.name}.json")


if __name__ == "__main__":
    run(main)
