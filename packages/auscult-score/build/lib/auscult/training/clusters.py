"""Classes for clips without attributes: clusters of their embeddings by another arm, from training clips alone.

k-means of the source clips and of the target clips apart (7 + 1 clusters: kasahart's rule of 2026), or Ward clustering (Fang et
al., arXiv 2509.12845, whose parameters we have not read). A unit's clips are clustered by themselves, scaled to length one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import AgglomerativeClustering, KMeans

from auscult.errors import AuscultError
from auscult.scoring.banks import unit_length
from auscult.scoring.kmeans import one_thread
from auscult.settings.sections import LabelSettings
from auscult.training.classes import withheld, without_attributes


def cluster_table(index: pd.DataFrame, embeddings: Path, labels: LabelSettings) -> pd.DataFrame:
    """Clip_id, machine and class of every clip of a machine type without attributes.

    A unit without target clips has clusters of its source clips alone. Clips that the other arm has not embedded, because it was
    left out on their machine type, are not in the table; the arm that asked for it is then left out on them and says so.

    Args:
        index: packed training clips: clip_id, machine, unit, domain, attributes.
        embeddings: folder of an arm's embeddings, of which `train.npy` and `train.parquet` alone are read.

    Raises:
        AuscultError: there are no embeddings, or a unit has fewer different clips than clusters are asked for.
    """
    if not (embeddings / "train.npy").is_file():
        raise AuscultError("there are no embeddings to cluster", str(embeddings), "run: dvc repro")
    vectors = np.load(embeddings / "train.npy", mmap_mode="r")
    place = pd.Series(np.arange(len(vectors)), pd.read_parquet(embeddings / "train.parquet")["clip_id"])
    index = withheld(index, labels.withheld)
    clips = index[without_attributes(index) & index["clip_id"].isin(place.index)].reset_index(drop=True)
    found = pd.Series("", clips.index)
    for (machine, unit), mine in clips.groupby(["machine", "unit"]):
        x = unit_length(vectors[place[mine["clip_id"]]].astype(np.float64))
        found[mine.index] = clusters_of(x, (mine["domain"] == "target").to_numpy(), labels, f"{machine}/{unit}")
    return clips[["clip_id", "machine"]].assign(**{"class": found})


def clusters_of(x: np.ndarray, target: np.ndarray, labels: LabelSettings, unit: str) -> np.ndarray:
    """The cluster of each clip of a unit, as words [clips]: "source_3", "target_0" of k-means, "cluster_3" of Ward.

    Args:
        x: embeddings of length one, float64 [clips, D].
        target: bool [clips].
        unit: its name, for errors.

    >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> labels = LabelSettings(missing="kmeans", clusters=1)
    >>> clusters_of(x, np.array([False, False, True]), labels, "fan/00").tolist()
    ['source_0', 'source_0', 'target_0']
    """
    if labels.missing == "ward":
        return np.char.add("cluster_", _ward(x, labels, unit).astype(str))
    words = np.full(len(x), "", dtype="U32")
    for domain, mine, count in (("source", ~target, labels.clusters), ("target", target, labels.target_clusters)):
        if mine.any():
            _check_enough(x[mine], count, f"{domain} clips of {unit}")
            with one_thread():
                found = KMeans(count, n_init=10, random_state=labels.seed).fit(x[mine]).labels_
            words[mine] = np.char.add(f"{domain}_", found.astype(str))
    return words


def _ward(x: np.ndarray, labels: LabelSettings, unit: str) -> np.ndarray:
    """Number of each clip's cluster [clips]; a single clip is one."""
    if not labels.distance:
        _check_enough(x, labels.clusters, f"clips of {unit}")
    if len(x) == 1:
        return np.zeros(1, int)
    limit: dict[str, Any] = {"n_clusters": labels.clusters}
    if labels.distance:
        limit = {"n_clusters": None, "distance_threshold": labels.distance}
    found: np.ndarray = AgglomerativeClustering(**limit).fit(x).labels_
    return found


def _check_enough(x: np.ndarray, clusters: int, whose: str) -> None:
    different = len(np.unique(x, axis=0))
    if different < clusters:
        what = f"{different} different {whose} are fewer than the {clusters} clusters that are asked for"
        fix = "lower `clusters` (or `target_clusters`), or use ward with a `distance`"
        raise AuscultError(what, "labels", fix)
