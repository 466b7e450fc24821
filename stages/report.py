"""The page of the project's own arms: data/<profile>/report/. Sees the labels of test clips."""

from auscult.errors import run
from auscult.results.page.build import project_rows, write_report
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    print(f"written: {write_report(project, project.paths.report, project_rows(project), studies=())}")


if __name__ == "__main__":
    run(main)
