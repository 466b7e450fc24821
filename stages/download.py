"""Put the profile's recordings in place: data/<profile>/raw.

`--machines fan,pump` only fetches and unpacks these machine types, ahead of time: the stage's output stays as it is, and
the next `dvc repro` finds them there. To work with a part of a data set, name it in `machines` of the profile: that is
tracked.
"""

import argparse

from auscult.data.download import fetch
from auscult.errors import run
from auscult.settings.project import Project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", default="", help="machine types, separated by commas")
    machines = [name for name in parser.parse_args().machines.split(",") if name]
    project = Project.open()
    fetch(project.profile, project.paths.raw, project.section("data").workers, machines)


if __name__ == "__main__":
    run(main)
