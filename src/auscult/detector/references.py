"""The windows of normal sound that a bundle keeps: their embeddings, and which recordings they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from auscult.detector.backend import left_out_by
from auscult.detector.folder import Bundle, metric_of, z_scored
from auscult.detector.thresholds import left_out_scores
from auscult.errors import AuscultError
from auscult.scoring.knn import distances

MOST = 50_000
"""Stretches that bundle.yaml may name."""
_SAME = 1e-4
"""Of the spread of the references: embeddings nearer than that in every dimension are of the same samples."""


@dataclass(frozen=True)
class References:
    """Of a bundle.

    Attributes:
        vectors: float32 [n, D]; none with backend `native`.
        table: `name`, `number`, `group`, `start` and `labelled` of each, see `manifest.Stretch`; no rows = not known.
        backend, k, window: of the bundle.
        scaled: the method z-scores its embedding by the first `scaled` of them; 0 = it does not.
        knobs: of a back-end that is none of `manifest.BACKENDS`.
    """

    vectors: np.ndarray
    table: pd.DataFrame
    backend: str
    k: int
    window: int
    scaled: int = 0
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counted(self) -> np.ndarray:
        """Which of them say how normal sound scores [n]."""
        return ~self.table["labelled"].to_numpy(bool)

    @property
    def recordings(self) -> int:
        """That a threshold comes from."""
        return int(self.table.loc[self.counted, "group"].nunique())

    def left_out(self) -> np.ndarray:
        """Scores float64 [n] of each without its own recording."""
        group, start = self.table["group"].to_numpy(), self.table["start"].to_numpy()
        if self.knobs:
            return left_out_by(self.knobs, self.vectors, group, self.scaled)
        return left_out_scores(self.vectors, group, start, self.window, self.k, metric_of(self.backend), self.scaled)

    def same(self, vectors: np.ndarray) -> np.ndarray:
        """Row [m] of the reference that is of the same samples as each of `vectors` [m, D]; -1 = none."""
        found = np.full(len(vectors), -1)
        if not len(self.vectors):
            return found
        spread = float(self.vectors.std())
        for rows, distance in distances(vectors, self.vectors, metric_of(self.backend)):
            nearest = distance.argmin(axis=1)
            equal = np.abs(vectors[rows] - self.vectors[nearest]).max(axis=1) <= _SAME * spread
            found[rows] = np.where(equal, nearest, -1)
        return found

    def plus(self, vectors: np.ndarray, table: pd.DataFrame) -> References:
        """With more of them behind."""
        together = pd.concat([self.table, table[list(self.table)]], ignore_index=True)
        if self.backend != "native":
            vectors = np.concatenate([self.vectors, vectors])
        return replace(self, vectors=vectors if self.backend != "native" else self.vectors, table=together)


def references_of(bundle: Bundle) -> References:
    """The references of a bundle.

    Raises:
        AuscultError: it does not say which of them are of one recording.
    """
    rows = [
        (each["name"], each["number"] + more, each["group"], each["start"] + more * bundle.window, each["labelled"])
        for each in bundle.facts["references"]
        for more in range(each["windows"])
    ]
    if not rows and bundle.backend != "native":
        what = "this bundle does not say which windows are of one recording: an older version made it, or they are too many"
        raise AuscultError(what, str(bundle.folder), "fit again, to the old and the new recordings")
    table = pd.DataFrame(rows, columns=["name", "number", "group", "start", "labelled"])
    own = len(bundle.reference) - sum(update["windows"] for update in bundle.facts["updates"])
    scaled = max(0, own) if z_scored(bundle.trained) else 0
    knobs = bundle.facts.get("knobs") or {}
    return References(bundle.reference, table, bundle.backend, bundle.k, bundle.window, scaled, knobs)


def stretches(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What bundle.yaml says of windows [n] with `name`, `number`, `group`, `start` and, if any are, `labelled`: see
    `manifest.Stretch`. None of them where that would be more than `MOST`.

    >>> stretches(pd.DataFrame({"name": ["a", "a", "a"], "number": [0, 1, 3], "group": 0, "start": [0, 8, 24]}))[0]
    {'name': 'a', 'number': 0, 'windows': 2, 'group': 0, 'start': 0, 'labelled': False}
    """
    made: list[dict[str, Any]] = []
    labels = table["labelled"].tolist() if "labelled" in table else [False] * len(table)
    columns = [table[name].tolist() for name in ("name", "number", "group", "start")]
    for name, number, group, start, labelled in zip(*columns, labels, strict=True):
        last = made[-1] if made else {}
        if last.get("name") == name and last["number"] + last["windows"] == number:
            last["windows"] += 1
        else:
            made.append({
                "name": name, "number": number, "windows": 1, "group": group, "start": start, "labelled": labelled
            })  # fmt: skip
    return made if len(made) <= MOST else []
