"""Put the profile's recordings in place: data/<profile>/raw."""

from auscult.data.sources import fetch
from auscult.errors import run
from auscult.project import Project


def main() -> None:
    project = Project.open()
    fetch(project.profile, project.paths.raw, project.section("data").workers)


if __name__ == "__main__":
    run(main)
