"""Classes for classifiers, from training clips alone: test names, attributes and labels cannot reach them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.settings.sections import LabelSettings

ClassLabel = Literal["unit", "attributes"]
"""What makes a class: machine type and unit, or these and the attributes in the file's name."""


@dataclass(frozen=True)
class Known:
    """What a project knows of classes beside the clips: what its profile calls one, and the table of clusters, if its arm has
    one (training/clusters.py)."""

    label: ClassLabel
    clusters: Path | None = None


def class_scheme(index: pd.DataFrame, asked: str, profile: ClassLabel) -> ClassLabel:
    """What makes a class: as the profile says, unless a method asks for "attributes" and a training clip of `index` has any."""
    return "attributes" if asked == "attributes" and (index["attributes"] != "").any() else profile


def withheld(index: pd.DataFrame, machines: Sequence[str]) -> pd.DataFrame:
    """`index` with the clips of these machine types as if nobody had written their attributes down."""
    return index.assign(attributes=index["attributes"].mask(index["machine"].isin(machines), "noAttribute"))


def without_attributes(index: pd.DataFrame) -> np.ndarray:
    """bool [clips]: whether the machine type of a clip has no attributes: all of its clips' are empty, or all equal.

    >>> without_attributes(pd.DataFrame({"machine": ["fan", "fan", "pump"], "attributes": ["spd_1", "spd_2", "noAttribute"]}))
    array([False, False,  True])
    """
    different = index.groupby("machine")["attributes"].transform("nunique")
    return (different == 1).to_numpy(bool)


def completed(
    index: pd.DataFrame, scheme: ClassLabel, labels: LabelSettings, clusters: Path | None
) -> tuple[pd.DataFrame, ClassLabel]:
    """`index` with a class in the place of the attributes of types that have none, as `labels.missing` says, and what then makes
    a class. NaN for a clip that the table of clusters does not have: the arm that was to embed it could not.

    Raises:
        AuscultError: clusters are asked for and there is no table of them.
    """
    if labels.missing in ("type", "subcentres"):
        return index, scheme
    if labels.missing == "domain":
        words = "domain_" + index["domain"]
    elif clusters is None or not clusters.is_file():
        fix = "run `python -m auscult.pipeline`, then `dvc repro`; outside of a project set it to type, domain or subcentres"
        raise AuscultError("there is no table of clusters for this arm", f"labels.missing: {labels.missing}", fix)
    else:
        words = index["clip_id"].map(pd.read_parquet(clusters).set_index("clip_id")["class"])
    known = index["attributes"] if scheme == "attributes" else "unit"
    return index.assign(attributes=words.where(without_attributes(index), known)), "attributes"


def centres_of(names: Sequence[str], labels: LabelSettings) -> list[int]:
    """Centres of each class in the head: one, but with `labels.missing: subcentres` several for a class without attributes
    (Jiang et al., ICASSP 2025).

    >>> centres_of(["fan/00/spd_1", "fan/00/spd_2", "pump/00/noAttribute"], LabelSettings(missing="subcentres"))
    [1, 1, 16]
    """
    if labels.missing != "subcentres":
        return [1] * len(names)
    index = pd.DataFrame({"machine": [name.split("/")[0] for name in names]})
    index["attributes"] = [name.split("/", 2)[2] if name.count("/") > 1 else "" for name in names]
    return [labels.sub_centres if bare else 1 for bare in without_attributes(index)]


def class_names(index: pd.DataFrame, scheme: ClassLabel) -> pd.Series:
    """ "machine/unit" or "machine/unit/attributes" of every clip of `index`."""
    names = index["machine"] + "/" + index["unit"]
    return names + "/" + index["attributes"] if scheme == "attributes" else names


def class_list(index: pd.DataFrame, scheme: ClassLabel) -> list[str]:
    """The sorted classes of the training clips in `index`."""
    return sorted(class_names(index, scheme).unique())


def unattributed(classes: Iterable[str]) -> tuple[int, ...]:
    """Positions of the classes "machine/unit/attributes" that stand for the clips of a unit whose attributes nobody wrote
    down (in the challenge's names since 2024: `noAttribute`); none where units are the classes."""
    attributes = [name.split("/", 2)[2].lower() if name.count("/") > 1 else "a unit" for name in classes]
    return tuple(i for i, words in enumerate(attributes) if not words or words.startswith("noattribute"))


def labels_of(index: pd.DataFrame, scheme: ClassLabel, classes: list[str]) -> np.ndarray:
    """int64 [clips]: position of each training clip's class in `classes`."""
    return class_names(index, scheme).map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)


def candidates_of(index: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """bool [clips, classes]: the classes of each clip's own machine and unit, all that is known of a test clip.

    Raises:
        AuscultError: a unit that was not trained on has no class to be measured against.
    """
    owner = np.array(["/".join(name.split("/")[:2]) for name in classes])
    mine = (index["machine"] + "/" + index["unit"]).to_numpy(str)
    mask: np.ndarray = mine[:, None] == owner[None, :]
    strangers = sorted(set(mine[~mask.any(axis=1)].tolist()))
    if strangers:
        what = f"{len(strangers)} unit(s) without a class of their own:{listed(strangers)}"
        raise AuscultError(what, fix="train on normal clips of these units, or leave out their test clips")
    return mask
