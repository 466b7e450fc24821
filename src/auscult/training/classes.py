"""Classes for classifiers, from training clips alone: test names, attributes and labels cannot reach them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from auscult.errors import AuscultError, listed

ClassLabel = Literal["unit", "attributes"]
"""What makes a class: machine type and unit, or these and the attributes in the file's name."""


def class_scheme(index: pd.DataFrame, asked: str, profile: ClassLabel) -> ClassLabel:
    """What makes a class: as the profile says, unless a method asks for "attributes" and a training clip of `index` has any."""
    return "attributes" if asked == "attributes" and (index["attributes"] != "").any() else profile


def withheld(index: pd.DataFrame, machines: Sequence[str]) -> pd.DataFrame:
    """`index` with the clips of these machine types as if nobody had written their attributes down."""
    return index.assign(attributes=index["attributes"].mask(index["machine"].isin(machines), "noAttribute"))


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
