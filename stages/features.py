"""Decode every clip once and compute the log-mel front-ends: data/<profile>/features/{train,test}.

Recordings of the machine alone and the noise alone are packed apart, below train/supplemental/.
"""

import pandas as pd

from auscult.data.inventory import root_of
from auscult.data.pack import pack
from auscult.data.store import SUPPLEMENTAL
from auscult.errors import run
from auscult.settings.project import Project


def main() -> None:
    project = Project.open()
    clips = pd.read_parquet(project.paths.clips)
    root, data, features = root_of(project.paths.raw), project.section("data"), project.section("features")
    for partition in ("train", "test"):
        rows = clips[clips["partition"] == partition]
        pack(rows, root, project.paths.features(partition), project.profile, data, features.frontends)
    for kind, rows in clips[clips["partition"] == SUPPLEMENTAL].groupby("kind"):
        out = project.paths.features("train") / SUPPLEMENTAL / str(kind)
        pack(rows, root, out, project.profile, data, features.frontends if kind == "machine" else [])


if __name__ == "__main__":
    run(main)
