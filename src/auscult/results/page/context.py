"""What every part of the report is made from, and what every part gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from auscult.scoring.banks import Metric
from auscult.scoring.table import own_distance
from auscult.settings.params import Params
from auscult.settings.paths import Paths
from auscult.settings.profile import Profile


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        title: heading (plain text; escaped by the page).
        anchor: id of the section, "worst-clips".
        html: its content, safe as it stands: every text in it is escaped. Addresses of its files are relative to the page.
            Classes the page knows: `scroll` (a wrapper that scrolls sideways), `sortable` (a table whose headings sort; a cell's
            `data-v` is its sort key), `cards` (a grid of figures), `note` (small print), `controls` (labels with selects).
        files: path relative to the page ("clips/fan_00.png") -> content.
        menu: what the menu calls it; "" = its title.
    """

    title: str
    anchor: str
    html: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    menu: str = ""


@dataclass(frozen=True)
class Context:
    """One profile's results as far as there are any.

    Attributes:
        profile: the profile, its rules and licence.
        params: params.yaml of the project and of the studies.
        paths: where everything of the profile lies; any of it may be absent.
        arms: arms that have scores, in the order of the page.
        titles: arm -> what a reader calls it.
        scores: arm -> clip_id, set, machine, unit, domain, backend, score (higher = more anomalous), seed; columns of text
            are categories.
        labels: clip_id, anomaly (0, 1, or missing), domain (the true one). Empty where there is no file.
        backends: arm -> the back-end it is judged by: its native score, or the first it has.
        seeds: training seeds; pictures show the first that an arm has scores of.
        left_out: arm -> why it has no scores, or lacks some.
        stale: what of this is not of the settings in use, and what to do.
    """

    profile: Profile
    params: Params
    paths: Paths
    arms: tuple[str, ...]
    titles: Mapping[str, str]
    scores: Mapping[str, pd.DataFrame]
    labels: pd.DataFrame
    backends: Mapping[str, str]
    seeds: tuple[int, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()

    def headline(self, arm: str) -> pd.DataFrame:
        """The test clips of an arm under its headline back-end, of its first seed: clip_id, set, machine, unit, domain, score,
        seed, and anomaly (float: 0, 1, NaN = no label); indexed from 0. The domain is the true one where it is known."""
        rows = self.scores[arm]
        rows = rows[rows["backend"] == self.backends[arm]]
        if "seed" in rows:
            rows = rows[rows["seed"] == rows["seed"].iloc[0]]
        truth = self.labels.set_index("clip_id")
        known = truth["domain"].reindex(rows["clip_id"]).to_numpy()
        out = rows.drop(columns="backend").reset_index(drop=True)
        out = out.astype({name: object for name in ("set", "machine", "unit", "domain")})
        domain = pd.Series(known, dtype=object)
        out["domain"] = domain.where(domain.isin(["source", "target"]), out["domain"])
        marks = truth["anomaly"].reindex(rows["clip_id"])
        out["anomaly"] = pd.to_numeric(marks, errors="coerce").to_numpy(dtype="float64", na_value=float("nan"))
        return out

    def metric(self, arm: str) -> Metric:
        """By which distance clips of an arm are near each other: its headline back-end's, or else what its method says, as for
        `auscult fit`."""
        if self.backends[arm] in ("knn_cosine", "knn_euclidean"):
            return "euclidean" if self.backends[arm] == "knn_euclidean" else "cosine"
        return "euclidean" if own_distance(self.paths.embeddings(arm, self.seed(arm))) == "euclidean" else "cosine"

    def seed(self, arm: str) -> int:
        """The training seed that is shown of an arm: the first that it has scores of."""
        rows = self.scores.get(arm)
        return int(rows["seed"].iloc[0]) if rows is not None and len(rows) and "seed" in rows else self.seeds[0]

    def model(self, arm: str) -> Path:
        """Model folder of an arm's first seed (of the arm whose weights it tests); need not be there."""
        weights = self.params.arms[arm].weights if arm in self.params.arms else arm
        return self.paths.model(weights, self.seed(arm))

    @cached_property
    def clip_names(self) -> Mapping[int, str]:
        """clip_id -> path below the data set; none where there is no manifest."""
        if not self.paths.clips.is_file():
            return {}
        clips = pd.read_parquet(self.paths.clips, columns=["clip_id", "path"])
        return dict(zip(clips["clip_id"].astype(int), clips["path"].astype(str), strict=True))

    def plain_arms(self) -> list[str]:
        """Arms that are tested as they were trained: an arm under noise agrees with itself."""
        known = self.params.arms
        return [arm for arm in self.arms if arm not in known or known[arm].condition is None]
