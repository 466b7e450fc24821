"""Sizes a network is built for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Sizes a network is built for.

    Attributes:
        classes: C.
        mels, frames: log-mel bands and frames of a clip, or rows and columns of an array; 0 where waveforms alone are read.
        samples: of a clip; 0 where clips are arrays.
        sample_rate: Hz.
        unattributed: the classes whose clips carry no attributes, where attributes make the classes.
        names: of the classes, "machine/unit" or "machine/unit/attributes"; () where nobody knows them.
    """

    classes: int
    mels: int
    frames: int
    samples: int
    sample_rate: int = 16000
    unattributed: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def units(self) -> list[int]:
        """Position of each class's unit among the units; without names every class is one.

        >>> Shape(3, 128, 313, 160_000, names=("fan/00/slow", "fan/00/fast", "fan/02/slow")).units
        [0, 0, 1]
        """
        owners = ["/".join(name.split("/")[:2]) for name in self.names] or list(map(str, range(self.classes)))
        place = {owner: index for index, owner in enumerate(dict.fromkeys(owners))}
        return [place[owner] for owner in owners]


def shape_of(facts: Mapping[str, Any]) -> Shape:
    """Shape of a network from what `config.yaml` says of it."""
    sizes = {**facts["shape"], "unattributed": tuple(facts["shape"]["unattributed"])}
    return Shape(**sizes, names=tuple(facts["classes"]))
