"""Decode every clip once and compute the log-mel front-ends: data/<profile>/features/{train,test}."""

import pandas as pd

from auscult.data.inventory import root_of
from auscult.data.pack import pack
from auscult.errors import run
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    clips = pd.read_parquet(project.paths.clips)
    root, data, features = root_of(project.paths.raw), project.section("data"), project.section("features")
    for partition in ("train", "test"):
        rows = clips[clips["partition"] == partition]
        pack(rows, root, project.paths.features(partition), project.profile, data, features.frontends)


if __name__ == "__main__":
    run(main)
