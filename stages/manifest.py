"""Read every file name and header: data/<profile>/manifest/{clips,labels}.parquet."""

from auscult.data.inventory import root_of
from auscult.data.manifest import build_manifest
from auscult.errors import run
from auscult.files import atomic_file
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    clips, labels = build_manifest(project.profile, root_of(project.paths.raw), project.section("data").workers)
    for table, path in ((clips, project.paths.clips), (labels, project.paths.labels)):
        with atomic_file(path) as part:
            table.to_parquet(part, index=False)


if __name__ == "__main__":
    run(main)
