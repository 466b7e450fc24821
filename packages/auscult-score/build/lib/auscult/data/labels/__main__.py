"""Make a table of labels from a list with the columns machine, file, anomaly and, where the names hide it, target (0, 1)."""

import csv
import sys
from pathlib import Path

from auscult.data.labels import Label, packed


def main(path: str) -> None:
    rows = list(csv.DictReader(Path(path).read_text().splitlines()))
    hidden = "target" in rows[0]
    labels = [
        Label(row["machine"], row["file"], int(row["anomaly"]), ("source", "target")[int(row.get("target", 0))])
        for row in rows
    ]
    print(packed(labels, hidden), end="")


if __name__ == "__main__":
    main(sys.argv[1])
